"""ONNX Runtime's rewrites of levels 1 and 2 on the CPU: eliminations, folding into convolutions, fusions.

Learned from onnxruntime/core/optimizer and checked against what the runtime writes (`sectum.graph.observed`). Not
modelled, so that the result has more operators than the runtime executes, never fewer: pushing transposes through
other operators, layer normalisation written out in primitive operators, attention fusions, quantised operators,
and no-op arithmetic such as adding a constant zero (constants' values are not kept).
"""

from __future__ import annotations

from collections.abc import Callable

from sectum.graph.ir import AttributeValue, Tensor
from sectum.graph.workgraph import Node, WorkGraph, ints

MICROSOFT = "com.microsoft"

CONV_ACTIVATIONS = frozenset({"Relu", "Sigmoid", "Tanh", "HardSigmoid", "LeakyRelu", "Clip"})
_GEMM_ACTIVATIONS = frozenset(
    {
        "Elu",
        "HardSigmoid",
        "LeakyRelu",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Tanh",
        "ThresholdedRelu",
    }
)
_RESHAPES = frozenset({"Reshape", "Squeeze", "Unsqueeze"})
_NCHW_TO_NHWC_RANK = 4


def apply_rewrites(work: WorkGraph) -> None:
    """Rewrite the graph as levels 1 and 2 do, in their order.

    A pass that makes nodes visits the graph in the execution order of its own beginning, so that they are numbered
    as the runtime's.
    """
    present = {node.type for node in work.nodes}
    if not present.isdisjoint(_ELIMINATIONS):
        for node in work.nodes:
            rule = _ELIMINATIONS.get(node.type)
            if rule is not None and not node.dead:
                rule(work, node)
    _merge_equal(work)
    for kinds, rule in _PASSES:
        if not present.isdisjoint(kinds):
            for node in work.execution_order() if rule in _MAKERS else tuple(work.nodes):
                if node.type in kinds and not node.dead:
                    rule(work, node)
            present.update(_MADE.get(rule, ()))


# Level 1: eliminations.


def _same_type(work: WorkGraph, node: Node) -> bool:
    source, result = work.tensors[node.inputs[0]], work.tensors[node.outputs[0]]
    return source.dtype == result.dtype and source.shape == result.shape


def _eliminate(work: WorkGraph, node: Node) -> None:
    if work.weight(node.inputs[0]) is None:
        work.bypass(node, node.inputs[0])


def _eliminate_dropout(work: WorkGraph, node: Node) -> None:
    if not any(work.uses(mask) for mask in node.outputs[1:]):
        _eliminate(work, node)


def _eliminate_unchanged(work: WorkGraph, node: Node) -> None:
    if _same_type(work, node):
        _eliminate(work, node)


def _eliminate_slice(work: WorkGraph, node: Node) -> None:
    steps = work.weight(node.inputs[4]) if len(node.inputs) > 4 else None
    forward = len(node.inputs) <= 4 or (
        steps is not None and steps.value is not None and bool((steps.value > 0).all())  # type: ignore[operator]
    )
    if forward and _same_type(work, node):
        _eliminate(work, node)


_ELIMINATIONS: dict[str, Callable[[WorkGraph, Node], None]] = {
    "Identity": _eliminate,
    "Dropout": _eliminate_dropout,
    "Cast": _eliminate_unchanged,
    "Slice": _eliminate_slice,
    "Expand": _eliminate_unchanged,
}


def _relu_before_clip(work: WorkGraph, node: Node) -> None:
    """Relu then Clip is one Clip, whose lower bound becomes at least 0."""
    clip = work.sole_consumer(node)
    if clip is not None and clip.type == "Clip" and clip.inputs[0] == node.outputs[0]:
        work.bypass(node, node.inputs[0])


def _merge_equal(work: WorkGraph) -> None:
    """Common subexpression elimination: equal operators on equal inputs become one."""
    first_by_key: dict[tuple[str, tuple[str, ...]], list[Node]] = {}
    for node in work.nodes:
        if node.dead or node.attributes.get("seed") is not None or not node.inputs:
            continue
        candidates = first_by_key.setdefault((node.type, tuple(node.inputs)), [])
        for first in candidates:
            if (
                first.domain == node.domain
                and len(first.outputs) == len(node.outputs)
                and first.attributes == node.attributes
                and not any(item in work.output_set for item in node.outputs)
            ):
                for mine, kept in zip(tuple(node.outputs), first.outputs, strict=True):
                    for reader in tuple(work.consumers.get(mine, ())):
                        for slot, item in enumerate(reader.inputs):
                            if item == mine:
                                work.set_input(reader, slot, kept)
                work.remove(node)
                break
        else:
            candidates.append(node)


# Level 1: folding into convolutions.


def _pad_into_consumers(work: WorkGraph, node: Node) -> None:
    """A constant zero Pad of the spatial dimensions becomes padding of the convolutions and pools that read it."""
    amounts = ints(node.attributes.get("pads"))
    if not amounts and len(node.inputs) > 1:
        given = work.weight(node.inputs[1])
        amounts = tuple(int(v) for v in given.value) if given is not None and given.value is not None else ()
    rank = len(work.tensors[node.inputs[0]].shape)
    readers = work.consumers.get(node.outputs[0], ())
    if (
        node.attributes.get("mode", "constant") != "constant"
        or len(amounts) != 2 * rank
        or min(amounts) < 0
        or any(amounts[i] or amounts[rank + i] for i in (0, 1))
        or (len(node.inputs) > 3 and node.inputs[3])
        or node.outputs[0] in work.output_set
        or not readers
    ):
        return
    spatial = rank - 2
    if any(
        reader.type not in ("Conv", "AveragePool", "MaxPool")
        or reader.domain
        or reader.inputs[0] != node.outputs[0]
        or reader.attributes.get("auto_pad", "NOTSET") != "NOTSET"
        # A pool would see the padding as absent; only a Conv sees zeros, as the Pad made them.
        or (reader.type != "Conv")
        for reader in readers
    ):
        return
    for reader in tuple(readers):
        pads = ints(reader.attributes.get("pads")) or (0,) * (2 * spatial)
        grown = tuple(
            pads[i] + amounts[2 + i] if i < spatial else pads[i] + amounts[rank + 2 + i - spatial]
            for i in range(2 * spatial)
        )
        reader.attributes = {**reader.attributes, "pads": grown}
    work.bypass(node, node.inputs[0])


def _constant_operand(work: WorkGraph, node: Node, other: str) -> Tensor | None:
    """The weight that a binary operator applies to ``other``, if there is one."""
    if len(node.inputs) != 2:
        return None
    left, right = node.inputs
    return work.weight(right) if left == other else None


def _per_channel(tensor: Tensor, channels: int, rank: int) -> bool:
    shape = tensor.shape
    if len(shape) == rank:
        if shape[0] != 1:
            return False
        shape = shape[1:]
    return len(shape) == rank - 1 and shape[0] == channels and all(d == 1 for d in shape[1:])


def _fold_affine(work: WorkGraph, conv: Node) -> None:
    """Fold what follows a convolution into its weights, for as long as something can be."""
    while _fold_next(work, conv):
        pass


def _fold_next(work: WorkGraph, conv: Node) -> bool:
    """Fold the BatchNormalization, constant Mul or constant Add that alone reads a convolution into its weights."""
    after = work.sole_consumer(conv)
    weight = work.weight(conv.inputs[1])
    if after is None or weight is None or after.domain:
        return False
    bias_name = conv.inputs[2] if len(conv.inputs) > 2 else ""
    if bias_name and work.weight(bias_name) is None:
        return False
    result = conv.outputs[0]
    rank = len(weight.shape)
    channels = work.tensors[result].shape[1]
    needs_bias = True
    if after.type == "BatchNormalization":
        if after.inputs[0] != result or any(work.weight(item) is None for item in after.inputs[1:5]):
            return False
        if any(work.uses(item) for item in after.outputs[1:]):
            return False
        after.outputs = after.outputs[:1]
    elif after.type == "Mul" and conv.type == "Conv":
        factor = _constant_operand(work, after, result)
        if factor is None or not (factor.elements == 1 or _per_channel(factor, channels, rank)):
            return False
        if len(factor.shape) > rank:
            return False
        needs_bias = bool(bias_name)
    elif after.type == "Add" and conv.type == "Conv":
        offset = _constant_operand(work, after, result)
        if offset is None or not _per_channel(offset, channels, rank):
            return False
    else:
        return False
    if after.type != "Add":
        work.set_input(conv, 1, work.new_tensor(weight.name, weight.shape, weight))
    if needs_bias:
        work.set_input(conv, 2, work.new_tensor(bias_name or f"{weight.name}_bias", (channels,), weight))
    work.take_output(conv, after)
    return True


# Level 1: matrices, reshapes, GELU, transposes.


def _matmul_add(work: WorkGraph, node: Node) -> None:
    """MatMul and the Add of a constant row become Gemm; operands of higher rank are flattened around it."""
    add = work.sole_consumer(node)
    left = work.tensors[node.inputs[0]]
    right = work.tensors[node.inputs[1]]
    if add is None or add.type != "Add" or len(right.shape) != 2 or len(left.shape) < 2:
        return
    bias_name = add.inputs[1] if add.inputs[0] == node.outputs[0] else add.inputs[0]
    bias = work.tensors[bias_name]
    columns = right.shape[1]
    if left.dtype != "float32" or bias_name == node.outputs[0]:
        return
    flat_rank = len(left.shape) == 2
    rows = left.elements // max(left.shape[-1], 1)
    if flat_rank:
        if bias.shape not in ((columns,), (1,), (1, columns), (rows, 1), (rows, columns), (1, 1)):
            return
    elif bias.shape not in ((columns,), (1, columns)):
        return
    source, result = node.inputs[0], add.outputs[0]
    inner = result
    if not flat_rank:
        shape = (rows, left.shape[-1])
        source = work.new_tensor(f"{result}_rows", shape, work.tensors[node.outputs[0]])
        inner = work.new_tensor(f"{result}_gemm", (rows, columns), work.tensors[node.outputs[0]])
    matrix = node.inputs[1]
    full = work.tensors[result].shape
    left_name = node.inputs[0]
    work.remove(add)
    work.remove(node)
    if not flat_rank:
        work.add("Reshape", [left_name, work.new_shape(work.tensors[source].shape)], [source])
    gemm: dict[str, AttributeValue] = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
    work.add("Gemm", [source, matrix, bias_name], [inner], gemm, name=add.name)
    if not flat_rank:
        work.add("Reshape", [inner, work.new_shape(full)], [result])


def _contiguous_reshapes(work: WorkGraph, node: Node) -> None:
    """A Reshape and the reshapes that follow it one by one are one Reshape."""
    last = node
    chain = []
    while (after := work.sole_consumer(last)) is not None and after.type in _RESHAPES:
        chain.append(after)
        last = after
    if not chain:
        return
    source, result = node.inputs[0], last.outputs[0]
    for item in (node, *chain):
        work.remove(item)
    work.add("Reshape", [source, work.new_shape(work.tensors[result].shape)], [result])


def _scalar(work: WorkGraph, node: Node, other: str) -> bool:
    """Whether a binary node applies one constant number to ``other``."""
    if len(node.inputs) != 2 or other not in node.inputs:
        return False
    operand = work.weight(node.inputs[1] if node.inputs[0] == other else node.inputs[0])
    return operand is not None and operand.elements == 1


def _gelu(work: WorkGraph, erf: Node) -> None:
    """``x / sqrt 2 -> Erf -> + 1 -> * x -> * 0.5`` in both of its spellings."""
    scale = work.producer.get(erf.inputs[0])
    if scale is None or scale.type not in ("Div", "Mul") or work.sole_consumer(scale) is not erf:
        return
    source = scale.inputs[0]
    add = work.sole_consumer(erf)
    if not _scalar(work, scale, source) or add is None or add.type != "Add":
        return
    product = work.sole_consumer(add)
    if not _scalar(work, add, erf.outputs[0]) or product is None or product.type != "Mul":
        return
    removed = [scale, erf, add, product]
    other = product.inputs[1] if product.inputs[0] == add.outputs[0] else product.inputs[0]
    if other == source:
        half = work.sole_consumer(product)
        if half is None or half.type != "Mul" or not _scalar(work, half, product.outputs[0]):
            return
        removed.append(half)
    else:
        half = work.producer.get(other)
        if half is None or half.type != "Mul" or not _scalar(work, half, source):
            return
        if work.sole_consumer(half) is not product:
            return
        removed.insert(0, half)
    result = removed[-1].outputs[0]
    for node in removed:
        work.remove(node)
    work.add("Gelu", [source], [result], domain=MICROSOFT)


def _cancel_transposes(work: WorkGraph, node: Node) -> None:
    """Two transposes in a row are one, or none."""
    before = work.producer.get(node.inputs[0])
    if before is None or before.type != "Transpose" or before.dead:
        return
    first, second = ints(before.attributes.get("perm")), ints(node.attributes.get("perm"))
    if not first or len(first) != len(second):
        return
    perm = tuple(first[axis] for axis in second)
    source = before.inputs[0]
    if perm == tuple(range(len(perm))):
        if not work.bypass(node, source):
            return
    else:
        work.set_input(node, 0, source)
        node.attributes = {**node.attributes, "perm": perm}
    if not work.uses(before.outputs[0]):
        work.remove(before)


# Level 2: activations.


def activation_attributes(work: WorkGraph, node: Node) -> dict[str, AttributeValue] | None:
    """What an activation adds to the attributes of the convolution that it is fused into; None if it cannot be."""
    if node.type not in CONV_ACTIVATIONS or node.domain:
        return None
    if node.type == "Clip" and any(item and work.weight(item) is None for item in node.inputs[1:]):
        return None
    return {"activation": node.type}


def _replace_pair(
    work: WorkGraph, first: Node, second: Node, kind: str, extra: dict[str, AttributeValue]
) -> None:
    inputs, outputs = first.inputs, second.outputs
    work.remove(second)
    work.remove(first)
    work.add(kind, inputs, outputs, {**first.attributes, **extra}, MICROSOFT, first.name)


def _gemm_activation(work: WorkGraph, gemm: Node) -> None:
    after = work.sole_consumer(gemm)
    if after is not None and after.type in _GEMM_ACTIVATIONS and not after.domain:
        _replace_pair(work, gemm, after, "FusedGemm", {"activation": after.type})


def _conv_activation(work: WorkGraph, conv: Node) -> None:
    after = work.sole_consumer(conv)
    if after is None or work.tensors[conv.outputs[0]].dtype != "float32":
        return
    extra = activation_attributes(work, after)
    if extra is not None:
        _replace_pair(work, conv, after, "FusedConv", extra)


def _quick_gelu(work: WorkGraph, sigmoid: Node) -> None:
    """``x * Sigmoid(x)`` and ``x * Sigmoid(alpha * x)``."""
    product = work.sole_consumer(sigmoid)
    if product is None or product.type != "Mul" or len(product.inputs) != 2:
        return
    other = product.inputs[1] if product.inputs[0] == sigmoid.outputs[0] else product.inputs[0]
    removed = [sigmoid, product]
    if other != sigmoid.inputs[0]:
        scale = work.producer.get(sigmoid.inputs[0])
        if scale is None or scale.type != "Mul" or not _scalar(work, scale, other):
            return
        if work.sole_consumer(scale) is not sigmoid:
            return
        removed.insert(0, scale)
    result = product.outputs[0]
    for node in removed:
        work.remove(node)
    work.add("QuickGelu", [other], [result], {"alpha": 1.0}, MICROSOFT)


_Rule = Callable[[WorkGraph, Node], None]

_PASSES: tuple[tuple[frozenset[str], _Rule], ...] = (
    (frozenset({"Relu"}), _relu_before_clip),
    (frozenset({"Pad"}), _pad_into_consumers),
    (frozenset({"Conv", "ConvTranspose"}), _fold_affine),
    (frozenset({"MatMul"}), _matmul_add),
    (frozenset({"Reshape"}), _contiguous_reshapes),
    (frozenset({"Erf"}), _gelu),
    (frozenset({"Transpose"}), _cancel_transposes),
    (frozenset({"Gemm"}), _gemm_activation),
    (frozenset({"Conv"}), _conv_activation),
    (frozenset({"Sigmoid"}), _quick_gelu),
)
_MAKERS = frozenset({_matmul_add, _contiguous_reshapes, _gelu, _gemm_activation, _conv_activation, _quick_gelu})
# Types of node that a pass makes and a later pass looks for.
_MADE: dict[_Rule, frozenset[str]] = {_matmul_add: frozenset({"Reshape", "Gemm"})}


def fuse_conv_add(work: WorkGraph) -> None:
    """Level 3: convolutions that kept their layout take in the Add after them, and an activation after that."""
    for conv in tuple(work.nodes):
        if conv.dead or conv.type != "Conv" or conv.domain or len(conv.inputs) > 3:
            continue
        add = work.sole_consumer(conv)
        result = conv.outputs[0]
        if add is None or add.type != "Add" or add.domain or work.tensors[result].dtype != "float32":
            continue
        other = add.inputs[1] if add.inputs[0] == result else add.inputs[0]
        if other == result or work.tensors[other].shape != work.tensors[result].shape:
            continue
        extra: dict[str, AttributeValue] = {}
        last = add
        after = work.sole_consumer(add)
        if after is not None and (found := activation_attributes(work, after)) is not None:
            extra, last = found, after
        inputs = [*conv.inputs, ""][:3] + [other]
        outputs = last.outputs
        if last is not add:
            work.remove(last)
        work.remove(add)
        work.remove(conv)
        work.add("FusedConv", inputs, outputs, {**conv.attributes, **extra}, MICROSOFT, conv.name)
