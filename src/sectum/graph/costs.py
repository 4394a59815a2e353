"""What an operator costs by its shapes: floating-point operations, and bytes read and written.

Operators are looked up by their exact domain and type. One that is not in the table is never free: it is
marked ``supported=False``, its bytes are counted, and its operations get the documented estimate of
:func:`_generic`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sectum.errors import OperatorUnsupported
from sectum.graph.ir import Graph, Operator, TensorKind

MICROSOFT, NCHWC = "com.microsoft", "com.microsoft.nchwc"


class OperatorCost(NamedTuple):
    """Cost of one operator in one inference; one that works on constants only is folded and costs nothing.

    Attributes:
        flops: operations; a multiply-accumulate counts as 2, a comparison or a transcendental function as 1.
        input_bytes: activations read.
        weight_bytes: weights read.
        output_bytes: bytes written.
        supported: whether the operator is known; if not, ``flops`` is an estimate.
        flops_bounds: least and most operations: equal to ``flops`` for a known operator. An unknown one does
            at least one operation for each element it writes, and at most as many as if each output element
            depended on every element read.
    """

    flops: int
    input_bytes: int
    weight_bytes: int
    output_bytes: int
    supported: bool
    flops_bounds: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many operators of a graph have a known cost.

    Attributes:
        operators: operators that run in an inference, and unknown ones on constants.
        supported: those among them that are known.
        unsupported: how often each unknown type occurs, by qualified type.
    """

    operators: int
    supported: int
    unsupported: Mapping[str, int]


Flops = Callable[[Operator, Graph], int]


def _elements(graph: Graph, name: str) -> int:
    return graph.tensors[name].elements if name else 0


def _out(op: Operator, graph: Graph) -> int:
    return _elements(graph, op.outputs[0]) if op.outputs else 0


def _in(op: Operator, graph: Graph) -> int:
    return _elements(graph, op.inputs[0]) if op.inputs else 0


def _per_output(count: int) -> Flops:
    return lambda op, graph: count * _out(op, graph)


def _per_input(count: int) -> Flops:
    return lambda op, graph: count * _in(op, graph)


def _int_attribute(op: Operator, name: str, default: int = 0) -> int:
    value = op.attributes.get(name, default)
    return value if isinstance(value, int) else default


def _activation(op: Operator, graph: Graph) -> int:
    # An activation fused into a product: one more pass over the output.
    return _out(op, graph) if "activation" in op.attributes else 0


def _conv(op: Operator, graph: Graph) -> int:
    weight = graph.tensors[op.inputs[1]].shape
    made = _out(op, graph)
    flops = 2 * made * math.prod(weight[1:])
    flops += made * sum(1 for name in op.inputs[2:4] if name)  # bias; the tensor that a fused Add brings
    return flops + _activation(op, graph)


def _quantised_conv(op: Operator, graph: Graph) -> int:
    weight_at = 3 if op.type == "QLinearConv" else 1
    return 2 * _out(op, graph) * math.prod(graph.tensors[op.inputs[weight_at]].shape[1:])


def _conv_transpose(op: Operator, graph: Graph) -> int:
    weight = graph.tensors[op.inputs[1]].shape
    bias = _out(op, graph) if len(op.inputs) > 2 and op.inputs[2] else 0
    return 2 * _in(op, graph) * math.prod(weight[1:]) + bias


def _gemm(op: Operator, graph: Graph) -> int:
    a = graph.tensors[op.inputs[0]].shape
    inner = a[0] if _int_attribute(op, "transA") else a[-1]
    made = _out(op, graph)
    bias = made if len(op.inputs) > 2 and op.inputs[2] else 0
    return 2 * made * inner + bias + _activation(op, graph)


def _matmul(op: Operator, graph: Graph) -> int:
    a = graph.tensors[op.inputs[0]].shape
    inner = a[-2] if _int_attribute(op, "transA") and len(a) > 1 else a[-1]
    return 2 * _out(op, graph) * inner


def _pool(op: Operator, graph: Graph) -> int:
    kernel = op.attributes.get("kernel_shape", ())
    window = math.prod(k for k in kernel if isinstance(k, int)) if isinstance(kernel, tuple) else 1
    return _out(op, graph) * window


def _variadic(op: Operator, graph: Graph) -> int:
    return _out(op, graph) * max(len(op.inputs) - 1, 1)


def _lrn(op: Operator, graph: Graph) -> int:
    # A square, a window of sums, a power and a division for each element.
    return _out(op, graph) * (_int_attribute(op, "size", 1) + 4)


def _resize(op: Operator, graph: Graph) -> int:
    mode = op.attributes.get("mode", "nearest")
    nearest = mode in ("nearest", b"nearest")
    if nearest:
        return _out(op, graph)
    spatial = max(len(graph.tensors[op.outputs[0]].shape) - 2, 1)
    return _out(op, graph) * 3 * spatial


def _nothing(_: Operator, __: Graph) -> int:
    return 0


def _table(domain: str, flops: Flops, names: str) -> dict[tuple[str, str], Flops]:
    return {(domain, name): flops for name in names.split()}


_FLOPS: Mapping[tuple[str, str], Flops] = {
    **_table("", _conv, "Conv"),
    **_table("", _quantised_conv, "QLinearConv ConvInteger"),
    **_table("", _conv_transpose, "ConvTranspose"),
    **_table("", _gemm, "Gemm"),
    **_table("", _matmul, "MatMul QLinearMatMul MatMulInteger"),
    **_table("", _pool, "MaxPool AveragePool LpPool"),
    **_table("", _per_input(1), "GlobalAveragePool GlobalMaxPool ArgMax ArgMin CumSum"),
    **_table("", _per_input(1), "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1"),
    **_table("", _per_input(2), "GlobalLpPool ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp"),
    **_table("", _variadic, "Add Sub Mul Div Sum Max Min Mean Pow Mod And Or Xor"),
    **_table("", _per_output(1), "Relu Clip PRelu LeakyRelu ThresholdedRelu Neg Abs Floor Ceil Round Sign Cast"),
    **_table("", _per_output(1), "Sqrt Exp Log Erf Sin Cos Tanh Reciprocal Where Not"),
    **_table("", _per_output(1), "Equal Greater Less GreaterOrEqual LessOrEqual"),
    **_table("", _per_output(2), "BatchNormalization QuantizeLinear DequantizeLinear"),
    **_table("", _per_output(3), "HardSigmoid Sigmoid Elu Selu Celu Softplus Softsign"),
    **_table("", _per_output(4), "HardSwish Softmax LogSoftmax Hardmax Swish"),
    **_table("", _per_output(5), "Mish LpNormalization"),
    **_table("", _per_output(8), "Gelu LayerNormalization InstanceNormalization GroupNormalization"),
    **_table("", _per_output(8), "MeanVarianceNormalization"),
    **_table("", _lrn, "LRN"),
    **_table("", _resize, "Resize Upsample"),
    **_table("", _nothing, "Concat Split Slice Transpose Reshape Flatten Squeeze Unsqueeze Identity Dropout"),
    **_table("", _nothing, "Pad Gather GatherElements GatherND ScatterND ScatterElements Expand Tile Trilu"),
    **_table("", _nothing, "DepthToSpace SpaceToDepth Shape Size Constant ConstantOfShape Range NonZero"),
    **_table(MICROSOFT, _conv, "FusedConv"),
    **_table(MICROSOFT, _gemm, "FusedGemm"),
    **_table(MICROSOFT, _matmul, "FusedMatMul TransposeMatMul"),
    **_table(MICROSOFT, _per_output(4), "BiasSoftmax"),
    **_table(MICROSOFT, _per_output(5), "QuickGelu"),
    **_table(MICROSOFT, _per_output(8), "Gelu FastGelu LayerNormalization"),
    **_table(MICROSOFT, _per_output(9), "BiasGelu SkipLayerNormalization"),
    **_table(NCHWC, _conv, "Conv"),
    **_table(NCHWC, _pool, "MaxPool AveragePool"),
    **_table(NCHWC, _per_input(1), "GlobalAveragePool GlobalMaxPool"),
    **_table(NCHWC, _nothing, "ReorderInput ReorderOutput"),
    **_table(NCHWC, _resize, "Upsample"),
}


def is_supported(op: Operator) -> bool:
    """Whether the operator's cost is known."""
    return (op.domain, op.type) in _FLOPS


def cost(op: Operator, graph: Graph) -> OperatorCost:
    """Cost of an operator of the graph in one inference."""
    flops_of = _FLOPS.get((op.domain, op.type))
    if flops_of is not None and graph.is_constant(op):
        return OperatorCost(0, 0, 0, 0, True, (0, 0))
    tensors, n_bytes, weight = graph.tensors, graph.n_bytes, TensorKind.WEIGHT
    read = weights = written = 0
    for name in dict.fromkeys(op.inputs):  # an operand read twice comes from memory once
        if name:
            if tensors[name].kind is weight:
                weights += n_bytes[name]
            else:
                read += n_bytes[name]
    for name in op.outputs:
        if name:
            written += n_bytes[name]
    if flops_of is not None:
        flops = flops_of(op, graph)
        return OperatorCost(flops, read, weights, written, True, (flops, flops))
    flops, bounds = _generic(op, graph)
    return OperatorCost(flops, read, weights, written, False, bounds)


def _generic(op: Operator, graph: Graph) -> tuple[int, tuple[int, int]]:
    """Operations of an unknown operator: an estimate and its bounds.

    Two known extremes span what CNN operators do. An elementwise operator does a few operations for each
    element that it touches; a product uses each weight once for each row of its activations, where a row is
    the last dimension. The estimate is the larger of both: 4 operations for each element read or written, or
    2 for each weight and row.
    """
    made = sum(_elements(graph, name) for name in op.outputs)
    read = {name: graph.tensors[name] for name in op.inputs if name}
    touched = made + sum(tensor.elements for tensor in read.values())
    weights = sum(t.elements for t in read.values() if t.kind is TensorKind.WEIGHT)
    rows = 1
    for name in op.outputs[:1]:
        shape = graph.tensors[name].shape if name else ()
        rows = math.prod(shape[:-1])
    least = max(made, 1)
    estimate = max(4 * touched, 2 * weights * rows, least)
    most = max(2 * made * max(touched - made, 1), estimate)
    return estimate, (least, most)


def coverage(graph: Graph) -> Coverage:
    """Count the operators whose cost is known and those whose is not."""
    operators = 0
    unknown: Counter[str] = Counter()
    for op in graph.operators:
        known = is_supported(op)
        if known and graph.is_constant(op):
            continue
        operators += 1
        if not known:
            unknown[op.qualified_type] += 1
    return Coverage(operators, operators - unknown.total(), dict(sorted(unknown.items())))


def require_supported(graph: Graph) -> None:
    """Refuse a graph with operators of unknown cost.

    Raises:
        OperatorUnsupported: there are some; the message lists them with their counts.
    """
    unknown = coverage(graph).unsupported
    if unknown:
        listed = ", ".join(f"{name} ({count})" for name, count in unknown.items())
        raise OperatorUnsupported(
            f"no cost is known for these operators: {listed}. Replace them, or leave out --strict to have "
            "their cost estimated from the bytes that they move"
        )
