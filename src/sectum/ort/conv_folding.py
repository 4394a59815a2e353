"""Folding into convolutions: padding in front of them, and per-channel arithmetic behind them."""

from __future__ import annotations

from sectum.graph.ir import Tensor
from sectum.ort.workgraph import Node, WorkGraph, constant_integers, ints

_FOLDED = frozenset({"BatchNormalization", "Mul", "Add"})
_PADDABLE = frozenset({"Conv", "AveragePool", "MaxPool"})


def pad_into_consumers(work: WorkGraph, node: Node) -> None:
    """Let the one convolution or pool that reads a Pad of the spatial dimensions with zeros pad by itself."""
    amounts = ints(node.attributes.get("pads")) or constant_integers(work, node, 1) or ()
    rank = len(work.tensors[node.inputs[0]].shape)
    reader = work.sole_consumer(node)
    if (
        node.attributes.get("mode", "constant") != "constant"
        or not _pads_with_zero(work, node)
        or len(amounts) != 2 * rank
        or min(amounts) < 0
        or any(amounts[i] or amounts[rank + i] for i in (0, 1))
        or len(node.inputs) > 3
        or reader is None
        or reader.type not in _PADDABLE
        or reader.domain
        or reader.inputs[0] != node.outputs[0]
        or len(reader.outputs) > 1
        or reader.attributes.get("auto_pad", "NOTSET") != "NOTSET"
    ):
        return
    added = amounts[2:rank] + amounts[rank + 2 :]
    pads = ints(reader.attributes.get("pads")) or (0,) * len(added)
    reader.attributes = {**reader.attributes, "pads": tuple(map(sum, zip(pads, added, strict=True)))}
    work.bypass(node, node.inputs[0], into=reader)


def _pads_with_zero(work: WorkGraph, node: Node) -> bool:
    """Whether the filling is known to be zero: by default, by attribute, or as a small constant."""
    if len(node.inputs) > 2 and node.inputs[2]:
        given = work.weight(node.inputs[2])
        return given is not None and given.value is not None and not given.value.any()
    return not node.attributes.get("value", 0.0)


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


def fold_affine(work: WorkGraph, conv: Node) -> None:
    """Fold what follows a convolution into its weights, for as long as something can be."""
    while _fold_next(work, conv):
        pass


def _fold_next(work: WorkGraph, conv: Node) -> bool:
    """Fold the BatchNormalization, constant Mul or constant Add that alone reads a convolution into its weights."""
    after = work.sole_consumer(conv)
    if after is None or after.type not in _FOLDED or after.domain:
        return False
    weight = work.weight(conv.inputs[1])
    if weight is None:
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
        if factor is None or (factor.shape and not _per_channel(factor, channels, rank)):
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
