"""Quantised operators: what the runtime makes of QuantizeLinear and DequantizeLinear around an operator.

Learned from onnxruntime/core/optimizer/qdq_transformer and qlinear/matmul rewrites of
onnxruntime/core/optimizer. Not modelled: products with blocks of 4 bits that are written as DequantizeLinear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sectum.graph.ir import AttributeValue, Graph, TensorKind
from sectum.ort.fusions import MICROSOFT
from sectum.ort.workgraph import Node, WorkGraph, other_input, sources_of

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"

_BINARY = {"Add": "QLinearAdd", "Mul": "QLinearMul"}
_UNARY = {
    name: f"QLinear{name}" for name in ("AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid", "Softmax")
}  # fmt: skip
_MOVES = frozenset({"MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Gather", "Slice", "Resize"})
_PRODUCTS = frozenset({"Conv", "MatMul", "Gemm"})
TARGETS = _PRODUCTS | _MOVES | {"Concat", *_BINARY, *_UNARY}
"""Types that may have a quantised form."""


def dequantized_weights(graph: Graph) -> frozenset[int]:
    """Indices of DequantizeLinear of weights: they run in every inference, unless they become part of an operator."""
    weight, tensors = TensorKind.WEIGHT, graph.tensors
    made = {
        op.outputs[0]: index
        for index, op in enumerate(graph.operators)
        if op.type == DEQUANTIZE and tensors[op.outputs[0]].kind is weight
    }
    if not made:
        return frozenset()
    live = [op for op in graph.operators if not graph.is_constant(op)]
    return frozenset(made[name] for op in live for name in op.inputs if name in made)


def activation_before_quantize(work: WorkGraph, node: Node) -> None:
    """A Relu, or a Clip from 0 on, changes nothing where its result is quantised with the zero point at the bottom."""
    after = work.sole_consumer(node)
    if after is None or after.type != QUANTIZE or len(after.inputs) < 3:
        return
    zero, scale = work.weight(after.inputs[2]), work.weight(after.inputs[1])
    if zero is None or zero.value is None or zero.value.size != 1 or scale is None or scale.value is None:
        return
    bottom, top = np.iinfo(zero.dtype).min, np.iinfo(zero.dtype).max
    if node.type == "Clip":
        low, high = (_number(work, node, slot) for slot in (1, 2))
        if low is None or high is None or low > 0 or high < float(scale.value.ravel()[0]) * (top - bottom):
            return
    if zero.value.ravel()[0] == bottom:
        work.bypass(node, node.inputs[0])


def _number(work: WorkGraph, node: Node, slot: int) -> float | None:
    tensor = work.weight(node.inputs[slot]) if len(node.inputs) > slot else None
    return None if tensor is None or tensor.value is None else float(tensor.value.ravel()[0])


def quantized_form(work: WorkGraph, node: Node) -> None:
    """Replace an operator between DequantizeLinear and QuantizeLinear by the one that works on integers."""
    if node.domain or not node.inputs:
        return
    count = 1 if node.type in _MOVES else len(node.inputs)
    before = [_dequantize(work, name) for name in node.inputs[:count]]
    after = work.sole_consumer(node)
    quantize = after if after is not None and after.type == QUANTIZE and len(after.inputs) == 3 else None
    found = [item for item in before if item is not None]
    if len(found) < count:
        return
    if node.type in ("MatMul", "Gemm") and quantize is None:
        if node.type == "MatMul":
            (a, a_scale, a_zero), (b, b_scale, b_zero) = (item.inputs[:3] for item in found)
            inputs = [a, b, a_scale, b_scale, a_zero, b_zero]
            _replace(work, node, found, None, "MatMulIntegerToFloat", MICROSOFT, inputs)
        return
    if quantize is None:
        return
    operands = [name for item in found for name in item.inputs[:3]]
    made = quantize.inputs[1:3]
    if node.type == "Conv":
        bias = found[2].inputs[:1] if len(found) > 2 else []
        _replace(work, node, found, quantize, "QLinearConv", "", [*operands[:6], *made, *bias])
    elif node.type == "MatMul":
        _replace(work, node, found, quantize, "QLinearMatMul", "", [*operands, *made])
    elif node.type == "Gemm":
        sums = found[2].inputs[0] if len(found) > 2 else ""
        _replace(work, node, found, quantize, "QGemm", MICROSOFT, [*operands[:6], sums, *made])
    elif node.type == "Concat":
        _replace(work, node, found, quantize, "QLinearConcat", MICROSOFT, [*made, *operands])
    elif node.type in _BINARY:
        _replace(work, node, found, quantize, _BINARY[node.type], MICROSOFT, [*operands, *made])
    elif node.type in _UNARY:
        _replace(work, node, found, quantize, _UNARY[node.type], MICROSOFT, [*operands, *made])
    elif all(_same(work, mine, theirs) for mine, theirs in zip(found[0].inputs[1:3], made, strict=True)):
        _replace(work, node, found, quantize, node.type, "", [found[0].inputs[0], *node.inputs[1:]])


def _dequantize(work: WorkGraph, name: str) -> Node | None:
    node = work.producer.get(name)
    return node if node is not None and node.type == DEQUANTIZE and len(node.inputs) == 3 else None


def _same(work: WorkGraph, one: str, other: str) -> bool:
    """Whether two constants are the same, by name or by content."""
    if one == other:
        return True
    values = [tensor.value for name in (one, other) if (tensor := work.weight(name)) and tensor.value is not None]
    return len(values) == 2 and np.array_equal(values[0], values[1])


def _replace(
    work: WorkGraph, node: Node, before: Sequence[Node], after: Node | None, kind: str, domain: str, inputs: list[str]
) -> None:
    """Put one operator in the place of a group; a DequantizeLinear that others read, too, stays for them."""
    outputs = node.outputs if after is None else after.outputs
    sources = sources_of(node, *([after] if after is not None else []))
    if after is not None:
        work.remove(after)
    work.remove(node)
    for item in dict.fromkeys(before):
        sources |= item.sources
        if not work.uses(item.outputs[0]):
            work.remove(item)
    work.add(kind, inputs, outputs, node.attributes, domain, node.name, sources)


def integer_product(work: WorkGraph, node: Node) -> None:
    """A MatMulInteger whose sums become floats by their scales is one operator, with the quantisation of its input."""
    cast = work.sole_consumer(node)
    scaled = work.sole_consumer(cast) if cast is not None and cast.type == "Cast" else None
    quantize = work.producer.get(node.inputs[0])
    if cast is None or scaled is None or scaled.type != "Mul" or len(node.inputs) < 3 or quantize is None:
        return
    scale = work.producer.get(other_input(scaled, cast.outputs[0]))
    if scale is None or scale.type != "Mul" or quantize.type != "DynamicQuantizeLinear":
        return
    if work.sole_consumer(scale) is not scaled or quantize.outputs[1] not in scale.inputs:
        return
    b_scale = other_input(scale, quantize.outputs[1])
    if work.weight(b_scale) is None or work.weight(node.inputs[1]) is None:
        return
    removed = [scaled, cast, scale, node]
    add = work.sole_consumer(scaled)
    bias = ""
    columns = work.tensors[node.inputs[1]].shape[-1]
    if add is not None and add.type == "Add" and columns > 1:  # a bias of one number is none for the runtime
        bias = next((item for item in add.inputs if (w := work.weight(item)) and w.shape == (columns,)), "")
        if bias:
            removed.insert(0, add)
    result = removed[0].outputs[0]
    b_zero = node.inputs[3] if len(node.inputs) > 3 else ""
    for other in removed:
        work.remove(other)
    if any(work.uses(name) for name in quantize.outputs):
        a, a_scale, a_zero = quantize.outputs
        inputs, kind = [node.inputs[1], a_scale, b_scale, a_zero, b_zero, bias], "MatMulIntegerToFloat"
        inputs = [a, *inputs]
    else:
        removed.append(quantize)
        work.remove(quantize)
        inputs, kind = [quantize.inputs[0], node.inputs[1], b_scale, b_zero, bias], "DynamicQuantizeMatMul"
    while inputs and not inputs[-1]:
        inputs.pop()
    work.add(kind, inputs, [result], {}, MICROSOFT, node.name, sources_of(*removed))


def to_channels_last(work: WorkGraph) -> bool:
    """Convolutions of integers work on channels last: each gets a transpose before and behind it.

    Returns:
        Whether there are some.
    """
    changed = False
    for node in tuple(work.nodes):
        if node.dead or node.type != "QLinearConv" or node.domain:
            continue
        rank = len(work.tensors[node.outputs[0]].shape)
        if rank < 3:
            continue
        changed = True
        source, result = node.inputs[0], node.outputs[0]
        last, first = (0, *range(2, rank), 1), (0, rank - 1, *range(1, rank - 1))
        shapes = [tuple(work.tensors[name].shape[axis] for axis in last) for name in (source, result)]
        moved, made = (
            work.new_tensor(name, shape, replace(work.tensors[name], kind=TensorKind.ACTIVATION, value=None))
            for name, shape in zip((source, result), shapes, strict=True)
        )
        attributes: dict[str, AttributeValue] = {**node.attributes, "channels_last": 1}
        work.remove(node)
        work.add("Transpose", [source], [moved], {"perm": last})
        work.add("QLinearConv", [moved, *node.inputs[1:]], [made], attributes, MICROSOFT, node.name, node.sources)
        work.add("Transpose", [made], [result], {"perm": first})
    return changed
