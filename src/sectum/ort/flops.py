"""Floating-point operations of an operator, by its shapes.

A multiply-accumulate counts as 2, a comparison or a transcendental function as 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from sectum.graph.ir import Dataflow, Operator

Flops = Callable[[Operator, Dataflow], int]


def elements(graph: Dataflow, name: str) -> int:
    """Elements of a tensor; 0 for an input that is left out."""
    return graph.tensors[name].elements if name else 0


def _out(op: Operator, graph: Dataflow) -> int:
    return elements(graph, op.outputs[0]) if op.outputs else 0


def _in(op: Operator, graph: Dataflow) -> int:
    return elements(graph, op.inputs[0]) if op.inputs else 0


def per_output(count: int) -> Flops:
    """A fixed number of operations for each element written."""
    return lambda op, graph: count * _out(op, graph)


def per_input(count: int) -> Flops:
    """A fixed number of operations for each element of the first input."""
    return lambda op, graph: count * _in(op, graph)


def _int_attribute(op: Operator, name: str, default: int = 0) -> int:
    value = op.attributes.get(name, default)
    return value if isinstance(value, int) else default


def _activation(op: Operator, graph: Dataflow) -> int:
    # An activation fused into a product: one more pass over the output.
    return _out(op, graph) if "activation" in op.attributes else 0


def conv(op: Operator, graph: Dataflow) -> int:
    """A convolution, with its bias, its fused sum and its fused activation."""
    weight = graph.tensors[op.inputs[1]].shape
    made = _out(op, graph)
    flops = 2 * made * math.prod(weight[1:])
    flops += made * sum(1 for name in op.inputs[2:4] if name)  # bias; the tensor that a fused Add brings
    return flops + _activation(op, graph)


def quantized_conv(op: Operator, graph: Dataflow) -> int:
    """A convolution of integers."""
    weight_at = 3 if op.type == "QLinearConv" else 1
    return 2 * _out(op, graph) * math.prod(graph.tensors[op.inputs[weight_at]].shape[1:])


def conv_transpose(op: Operator, graph: Dataflow) -> int:
    """A transposed convolution."""
    weight = graph.tensors[op.inputs[1]].shape
    bias = _out(op, graph) if len(op.inputs) > 2 and op.inputs[2] else 0
    return 2 * _in(op, graph) * math.prod(weight[1:]) + bias


def gemm(op: Operator, graph: Dataflow) -> int:
    """A matrix product with a bias and a fused activation."""
    a = graph.tensors[op.inputs[0]].shape
    inner = a[0] if _int_attribute(op, "transA") else a[-1]
    made = _out(op, graph)
    bias = made if len(op.inputs) > 2 and op.inputs[2] else 0
    return 2 * made * inner + bias + _activation(op, graph)


def matmul(op: Operator, graph: Dataflow) -> int:
    """A matrix product, batched or not."""
    a = graph.tensors[op.inputs[0]].shape
    inner = a[-1]
    if _int_attribute(op, "transA") and len(a) > 1:
        inner = a[0 if _int_attribute(op, "transBatchA") else -2]
    return 2 * _out(op, graph) * inner


def recurrent_layer(gates: int) -> Flops:
    """A recurrent layer: for each step and direction a product with both weights, and about four operations a gate."""

    def flops(op: Operator, graph: Dataflow) -> int:
        steps, batch, inputs = graph.tensors[op.inputs[0]].shape
        recurrence = graph.tensors[op.inputs[2]].shape
        directions, hidden = recurrence[0], recurrence[1 if op.domain else 2]  # quantised weights are transposed
        return steps * batch * directions * gates * hidden * (2 * (inputs + hidden) + 4)

    return flops


def pool(op: Operator, graph: Dataflow) -> int:
    """One operation for each element of each window."""
    kernel = op.attributes.get("kernel_shape", ())
    window = math.prod(k for k in kernel if isinstance(k, int)) if isinstance(kernel, tuple) else 1
    return _out(op, graph) * window


def variadic(op: Operator, graph: Dataflow) -> int:
    """One operation less than there are operands, for each element written."""
    return _out(op, graph) * max(len(op.inputs) - 1, 1)


def lrn(op: Operator, graph: Dataflow) -> int:
    """Local response normalization: a square, a window of sums, a power and a division for each element."""
    return _out(op, graph) * (_int_attribute(op, "size", 1) + 4)


def resize(op: Operator, graph: Dataflow) -> int:
    """One operation for each element written; three for each spatial axis where it interpolates."""
    mode = op.attributes.get("mode", "nearest")
    nearest = mode in ("nearest", b"nearest")
    if nearest:
        return _out(op, graph)
    spatial = max(len(graph.tensors[op.outputs[0]].shape) - 2, 1)
    return _out(op, graph) * 3 * spatial


def nothing(_: Operator, __: Dataflow) -> int:
    """No arithmetic: memory is moved or renamed."""
    return 0


def attention(op: Operator, graph: Dataflow) -> int:
    """Attention: the product with its weights, if it has some, queries times keys, a softmax, scores times values.

    Keys are as long as those that it returns with the past, or else those that it is given.
    """
    queries = graph.tensors[op.inputs[0]].shape
    batch, length = queries[0], queries[-2]
    width = math.prod(queries[1:]) // length
    keys = graph.tensors[op.inputs[1]].shape if len(op.inputs) > 1 and op.inputs[1] else queries
    projected = 0
    if op.type in ("Attention", "QAttention") and op.domain:
        projected = 2 * batch * length * math.prod(keys)
        width, keys = keys[-1] // 3, queries
    held = max(keys[-2], *(graph.tensors[name].shape[-2] for name in op.outputs[1:] if name), 0)
    return projected + 4 * batch * length * held * width


def einsum(op: Operator, graph: Dataflow) -> int:
    """A multiply-accumulate for each combination of all indices."""
    equation = op.attributes.get("equation", "")
    terms = equation.replace(" ", "").split("->")[0].split(",") if isinstance(equation, str) else []
    if len(terms) != len(op.inputs) or any("." in term for term in terms):
        return 2 * _out(op, graph) * max((graph.tensors[name].shape[-1] for name in op.inputs), default=1)
    sizes: dict[str, int] = {}
    for term, name in zip(terms, op.inputs, strict=True):
        sizes.update(zip(term, graph.tensors[name].shape, strict=False))
    return 2 * math.prod(sizes.values())


def fourier_transform(op: Operator, graph: Dataflow) -> int:
    """Five operations for each value and level of a fast transform."""
    made = graph.tensors[op.outputs[0]].shape
    return 5 * math.prod(made) * max(1, math.ceil(math.log2(max(2, *made[-2:]))))
