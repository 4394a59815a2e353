"""What becomes of each type of operator when a transpose in front of it moves behind it.

Learned from onnxruntime/core/optimizer/transpose_optimization.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np

from sectum.graph.ir import TensorKind
from sectum.ort.workgraph import Node, WorkGraph, ints

Axes = tuple[int, ...]

_ELEMENTWISE = frozenset(
    {
        "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cast", "Ceil", "Celu", "Cos", "Cosh", "Elu", "Erf",
        "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Log", "Neg",
        "Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus",
        "Softsign", "Sqrt", "Tan", "Tanh", "ThresholdedRelu",
    }
)  # fmt: skip
_BROADCAST = frozenset(
    {
        "Add", "And", "BitShift", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean",
        "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor",
    }
)  # fmt: skip
_SOFTMAX = frozenset({"Softmax", "Hardmax", "LogSoftmax"})
_REDUCTIONS = frozenset(
    {
        "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
        "ReduceSum", "ReduceSumSquare",
    }
)  # fmt: skip
_FIRST = frozenset(
    {
        "ArgMax", "ArgMin", "Clip", "CastLike", "DequantizeLinear", "MaxPool", "Pad", "QuantizeLinear",
        "Reshape", "Resize", "Shape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
_CONTRIB: Mapping[str, Axes] = {
    "DequantizeLinear": (0,), "QLinearAdd": (0, 3), "QLinearAveragePool": (0,), "QLinearGlobalAveragePool": (0,),
    "QLinearLeakyRelu": (0,), "QLinearMul": (0, 3), "QLinearSigmoid": (0,), "QLinearSoftmax": (0,),
    "QuantizeLinear": (0,),
}  # fmt: skip
LEAVES_NO_TRANSPOSE = frozenset({"Transpose", "Reshape", "Shape"})
"""Types behind which no transpose of the result is left."""
_TO_CHANNELS_FIRST = (0, 3, 1, 2)
_POOLS = frozenset({"QLinearAveragePool", "QLinearGlobalAveragePool"})
_AXIS_INPUTS_SINCE = {"ReduceSum": 13, "Squeeze": 13, "Unsqueeze": 13}


def slots_of(work: WorkGraph, node: Node) -> tuple[int, ...] | None:
    """The inputs from which a transpose can move behind an operator; None where there is no rule for its type."""
    kind = node.type
    if node.domain:
        if node.domain != "com.microsoft":
            return None
        return tuple(range(2, len(node.inputs), 3)) if kind == "QLinearConcat" else _CONTRIB.get(kind)
    if kind in _BROADCAST:
        return tuple(slot for slot, name in enumerate(node.inputs) if work.tensors[name].shape)
    if kind == "Concat":
        return tuple(range(len(node.inputs)))
    known = kind in _ELEMENTWISE or kind in _FIRST or kind in _REDUCTIONS or kind in _SOFTMAX
    return (0,) if known else None


def perm_of(work: WorkGraph, node: Node) -> Axes:
    """The order of axes that a Transpose makes."""
    return ints(node.attributes.get("perm")) or tuple(reversed(range(len(work.tensors[node.outputs[0]].shape))))


def inverse(perm: Axes) -> Axes:
    """The order that undoes another one."""
    result = [0] * len(perm)
    for axis, source in enumerate(perm):
        result[source] = axis
    return tuple(result)


def handle(
    work: WorkGraph, node: Node, before: Node, perm: Axes, slots: tuple[int, ...], *, placed: bool, towards: bool
) -> bool:
    """Move the transpose ``before`` behind ``node``; False, with nothing done, where the sizes do not allow it."""
    kind, rank = node.type, len(perm)
    if kind == "Transpose":
        return _merge(work, node, before, tuple(perm[axis] for axis in perm_of(work, node)))
    if kind == "Reshape":
        if towards and perm == _TO_CHANNELS_FIRST and (split := _splits_channels(work, node)):
            _transpose_input(work, node, 0, inverse(perm))
            _set_given(work, node, 1, split)
            rank = len(split)
            _transpose_outputs(work, node, (0, *range(3, rank), 1, 2))
            return True
        moved = _as_transpose(work.tensors[node.inputs[0]].shape, work.tensors[node.outputs[0]].shape)
        return moved is not None and _merge(work, node, before, tuple(perm[axis] for axis in moved))
    if kind == "Shape" or (kind == "MaxPool" and not _channels_last_pool(work, node, perm, placed=placed)):
        return False
    if kind == "Resize" and not (placed and perm in ((0, 2, 3, 1), (0, 3, 1, 2))):
        return False
    after = perm
    if kind in _BROADCAST or kind in ("QLinearAdd", "QLinearMul"):
        if any(len(work.tensors[node.inputs[slot]].shape) > rank for slot in slots):
            return False
        for slot in slots:
            missing = rank - len(work.tensors[node.inputs[slot]].shape)
            if missing and work.weight(node.inputs[slot]) is None:
                _add_axes(work, node, slot, missing)
    elif kind in _RULES:
        changed = _RULES[kind](work, node, perm)
        if changed is None:
            return False
        after = changed
    for slot in slots:
        _transpose_input(work, node, slot, inverse(perm))
    if kind == "MaxPool":
        node.type, node.domain = "NhwcMaxPool", "com.microsoft"
    _transpose_outputs(work, node, after)
    return True


def _add_axes(work: WorkGraph, node: Node, slot: int, count: int) -> None:
    """Give an operand as many axes as the others have, by an Unsqueeze, or by leaving out a Squeeze."""
    name = node.inputs[slot]
    tensor, axes, before = work.tensors[name], tuple(range(count)), work.producer.get(name)
    if before is not None and before.type == "Squeeze" and _axes(work, before, count + len(tensor.shape)) == axes:
        work.set_input(node, slot, before.inputs[0])
        if not work.uses(name):
            node.sources |= before.sources
            work.remove(before)
        return
    made = work.new_tensor(name, (1,) * count + tensor.shape, tensor)
    by_input = work.opset >= _AXIS_INPUTS_SINCE["Unsqueeze"]
    inputs = [name, work.new_shape(axes)] if by_input else [name]
    work.add("Unsqueeze", inputs, [made], {} if by_input else {"axes": axes})
    work.set_input(node, slot, made)


def _splits_channels(work: WorkGraph, node: Node) -> Axes | None:
    """The shape that a Reshape makes with channels last, if it does nothing but split the channels of an image."""
    before, after = work.tensors[node.inputs[0]].shape, work.tensors[node.outputs[0]].shape
    if len(before) != 4 or len(after) <= 4 or after[0] != before[0] or after[-2:] != before[-2:]:
        return None
    return (after[0], *after[-2:], *after[1:-2])


def _merge(work: WorkGraph, node: Node, before: Node, perm: Axes) -> bool:
    """Two transposes in a row are one, or none."""
    source = before.inputs[0]
    if perm == tuple(range(len(perm))):
        if not work.bypass(node, source):
            return False
    else:
        work.set_input(node, 0, source)
        for slot in range(len(node.inputs) - 1, 0, -1):
            work.set_input(node, slot, "")
        node.inputs = node.inputs[:1]
        node.type, node.attributes = "Transpose", {"perm": perm}
    _remove_unused(work, before, node)
    return True


def _remove_unused(work: WorkGraph, transpose: Node, heir: Node) -> None:
    if transpose.dead or work.uses(transpose.outputs[0]):
        return
    source = transpose.inputs[0]
    if heir.dead:
        made = work.producer.get(source) or next(iter(work.consumers.get(source, ())), None)
        heir = made if made is not None and made is not transpose else heir
    heir.sources |= transpose.sources
    work.remove(transpose)


def _as_transpose(before: Axes, after: Axes) -> Axes | None:
    """The order of axes that a Reshape makes, if it moves nothing but axes of size 1."""
    if len(before) != len(after):
        return None
    left: list[int | None] = list(before)
    perm = []
    for size in after:
        axis = next((axis for axis, mine in enumerate(left) if mine == size), None)
        passed = left[:axis]
        if axis is None or (size != 1 and any(mine not in (None, 1) for mine in passed)):
            return None
        perm.append(axis)
        left[axis] = None
    return tuple(perm)


def _transpose_input(work: WorkGraph, node: Node, slot: int, perm: Axes) -> None:
    """Let an input of a node be what it was, with its axes in another order."""
    name = node.inputs[slot]
    tensor, weight = work.tensors[name], work.weight(name)
    if weight is not None:
        if weight.elements != 1:
            full = (1,) * (len(perm) - len(weight.shape)) + weight.shape
            work.set_input(node, slot, work.new_tensor(name, tuple(full[axis] for axis in perm), weight))
        return
    before = work.producer.get(name)
    dequantize = before if before is not None and before.type == "DequantizeLinear" and work.uses(name) == 1 else None
    if dequantize is not None and _transpose_dequantized(work, dequantize, perm):
        return
    if before is not None and before.type == "Transpose":
        both = tuple(perm_of(work, before)[axis] for axis in perm)
        source = before.inputs[0]
        if both == tuple(range(len(both))):
            work.set_input(node, slot, source)
            _remove_unused(work, before, node)
            return
        made = work.new_tensor(name, tuple(tensor.shape[axis] for axis in perm), tensor)
        work.add("Transpose", [source], [made], {"perm": both})
        work.set_input(node, slot, made)
        _remove_unused(work, before, node)
        return
    for reader in work.consumers.get(name, ()):
        if reader.type == "Transpose" and perm_of(work, reader) == perm:
            work.set_input(node, slot, reader.outputs[0])
            return
    made = work.new_tensor(name, tuple(tensor.shape[axis] for axis in perm), tensor)
    work.add("Transpose", [name], [made], {"perm": perm})
    work.set_input(node, slot, made)


def _transpose_dequantized(work: WorkGraph, dequantize: Node, perm: Axes) -> bool:
    """Transpose what a DequantizeLinear reads, where that is a weight or cancels a transpose in front of it."""
    name, result = dequantize.inputs[0], dequantize.outputs[0]
    weight, before = work.weight(name), work.producer.get(name)
    tensor = work.tensors[result]
    if weight is not None:
        full = (1,) * (len(perm) - len(weight.shape)) + weight.shape
        if weight.elements != 1:
            work.set_input(dequantize, 0, work.new_tensor(name, tuple(full[axis] for axis in perm), weight))
    elif before is not None and before.type == "Transpose" and perm_of(work, before) == inverse(perm):
        full = tensor.shape
        work.set_input(dequantize, 0, before.inputs[0])
        _remove_unused(work, before, dequantize)
    else:
        return False
    work.tensors[result] = replace(tensor, shape=tuple(full[axis] for axis in perm))
    return True


def _transpose_outputs(work: WorkGraph, node: Node, perm: Axes) -> None:
    """Let a node make its results with their axes in another order, and transpose them."""
    if perm == tuple(range(len(perm))):
        return
    back = inverse(perm)
    for port, result in enumerate(node.outputs):
        if not result:
            continue
        tensor = work.tensors[result]
        inner = work.new_tensor(result, tuple(tensor.shape[axis] for axis in back), tensor)
        work.producer.pop(result)
        node.outputs = [*node.outputs[:port], inner, *node.outputs[port + 1 :]]
        work.producer[inner] = node
        work.add("Transpose", [inner], [result], {"perm": perm})


def _with_axis(default: int | None) -> Callable[[WorkGraph, Node, Axes], Axes | None]:
    def rule(_: WorkGraph, node: Node, perm: Axes) -> Axes | None:
        axis = node.attributes.get("axis", default)
        if not isinstance(axis, int):
            return None
        node.attributes = {**node.attributes, "axis": perm[axis % len(perm)]}
        return perm

    return rule


def _given(work: WorkGraph, node: Node, slot: int) -> tuple[int, ...] | None:
    """Values of a constant input of integers; None where they are not known."""
    tensor = work.weight(node.inputs[slot]) if len(node.inputs) > slot and node.inputs[slot] else None
    return None if tensor is None or tensor.value is None else tuple(tensor.value.astype(int).ravel().tolist())


def _set_given(work: WorkGraph, node: Node, slot: int, values: Iterable[int]) -> None:
    work.set_input(node, slot, work.new_shape(tuple(values)))


def _axes(work: WorkGraph, node: Node, rank: int) -> tuple[int, ...] | None:
    by_input = work.opset >= _AXIS_INPUTS_SINCE.get(node.type, 18)
    axes = _given(work, node, 1) if by_input else ints(node.attributes.get("axes"))
    return None if axes is None else tuple(axis % rank for axis in axes)


def _set_axes(work: WorkGraph, node: Node, axes: Iterable[int]) -> None:
    if work.opset >= _AXIS_INPUTS_SINCE.get(node.type, 18):
        _set_given(work, node, 1, axes)
    else:
        node.attributes = {**node.attributes, "axes": tuple(axes)}


def _without(axes: Iterable[int], perm: Axes) -> Axes:
    """The order of the axes that are left when some are dropped."""
    dropped = set(axes)
    kept = [axis for axis in range(len(perm)) if axis not in dropped]
    return tuple(kept.index(axis) for axis in perm if axis not in dropped)


def _squeeze(work: WorkGraph, node: Node, perm: Axes) -> Axes | None:
    axes = _axes(work, node, len(perm))
    if not axes:
        return None
    new = sorted(perm[axis] for axis in axes)
    _set_axes(work, node, new)
    return _without(new, perm)


def _unsqueeze(work: WorkGraph, node: Node, perm: Axes) -> Axes | None:
    rank = len(work.tensors[node.outputs[0]].shape)
    axes = _axes(work, node, rank)
    if axes is None:
        return None
    rest = [axis for axis in range(rank) if axis not in axes]
    after = list(range(rank))
    for axis, source in zip(rest, perm, strict=True):
        after[axis] = rest[source]
    return tuple(after)


def _reduce(work: WorkGraph, node: Node, perm: Axes) -> Axes | None:
    keep = node.attributes.get("keepdims", 1) != 0
    by_input = work.opset >= _AXIS_INPUTS_SINCE.get(node.type, 18)
    if by_input and len(node.inputs) > 1 and node.inputs[1]:
        axes = _axes(work, node, len(perm))
        if axes is None:
            return None
    else:
        axes = () if by_input else tuple(a % len(perm) for a in ints(node.attributes.get("axes")))
    if not axes:
        return perm if keep else ()
    new = sorted(perm[axis] for axis in axes)
    _set_axes(work, node, new)
    return perm if keep else _without(new, perm)


def _argument(_: WorkGraph, node: Node, perm: Axes) -> Axes | None:
    axis = node.attributes.get("axis", 0)
    assert isinstance(axis, int)
    new = perm[axis % len(perm)]
    node.attributes = {**node.attributes, "axis": new}
    return perm if node.attributes.get("keepdims", 1) else _without((new,), perm)


def _slice(work: WorkGraph, node: Node, perm: Axes) -> Axes | None:
    if work.opset < 10:
        starts = ints(node.attributes.get("starts"))
        axes = ints(node.attributes.get("axes")) or tuple(range(len(starts)))
        node.attributes = {**node.attributes, "axes": tuple(perm[axis % len(perm)] for axis in axes)}
        return perm
    if len(node.inputs) < 4 or not node.inputs[3]:
        _set_given(work, node, 3, perm[: work.tensors[node.inputs[1]].elements])
        return perm
    axes_given = _given(work, node, 3)
    if axes_given is None:
        return None
    _set_given(work, node, 3, (perm[axis % len(perm)] for axis in axes_given))
    return perm


def _permuted(work: WorkGraph, node: Node, slot: int, order: Axes) -> bool:
    """Put the values of a constant input, one for each axis, into another order."""
    if len(node.inputs) <= slot or not node.inputs[slot]:
        return True
    name = node.inputs[slot]
    tensor = work.weight(name)
    if tensor is None or tensor.value is None:
        return False
    if tensor.elements:
        made = work.new_tensor(name, tensor.shape, tensor)
        work.tensors[made] = replace(work.tensors[made], value=np.take(tensor.value, order), kind=TensorKind.WEIGHT)
        work.set_input(node, slot, made)
    return True


def _pad(work: WorkGraph, node: Node, perm: Axes) -> Axes | None:
    back = inverse(perm)
    order = (*back, *(axis + len(perm) for axis in back))
    if work.opset < 11:
        pads = ints(node.attributes.get("pads"))
        node.attributes = {**node.attributes, "pads": tuple(pads[axis] for axis in order)}
        return perm
    return perm if _permuted(work, node, 1, order) else None


def _tile(work: WorkGraph, node: Node, perm: Axes) -> Axes | None:
    return perm if _permuted(work, node, 1, inverse(perm)) else None


def _resize(work: WorkGraph, node: Node, perm: Axes) -> Axes | None:
    back = inverse(perm)
    first = 2 if work.opset >= 11 else 1
    return perm if all(_permuted(work, node, slot, back) for slot in range(first, 4)) else None


def _quantize(work: WorkGraph, node: Node, perm: Axes) -> Axes | None:
    if work.tensors[node.inputs[1]].shape == ():
        return perm
    return _with_axis(1)(work, node, perm)


def _pool(_: WorkGraph, node: Node, perm: Axes) -> Axes | None:
    first = (0, len(perm) - 1, *range(1, len(perm) - 1))
    last = node.attributes.get("channels_last", 0)
    if not (perm == first and not last) and not (inverse(perm) == first and last):
        return None
    node.attributes = {**node.attributes, "channels_last": 1 - int(bool(last))}
    return perm


def _channels_last_pool(work: WorkGraph, node: Node, perm: Axes, *, placed: bool) -> bool:
    integers = work.tensors[node.outputs[0]].dtype in ("int8", "uint8")
    return placed and integers and len(node.outputs) == 1 and perm == (0, len(perm) - 1, *range(1, len(perm) - 1))


_RULES: Mapping[str, Callable[[WorkGraph, Node, Axes], Axes | None]] = {
    "Concat": _with_axis(None), "QLinearConcat": _with_axis(None), "Split": _with_axis(0), "QLinearSoftmax":
    _with_axis(-1), **dict.fromkeys(_SOFTMAX, _with_axis(-1)), **dict.fromkeys(_REDUCTIONS, _reduce),
    "ArgMax": _argument, "ArgMin": _argument, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Slice": _slice,
    "Pad": _pad, "Tile": _tile, "Resize": _resize, "QuantizeLinear": _quantize, "DequantizeLinear": _quantize,
    **dict.fromkeys(_POOLS, _pool),
}  # fmt: skip
