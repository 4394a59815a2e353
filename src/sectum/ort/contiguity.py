"""How many elements a kernel handles in one piece: what decides the speed of moves, reductions and broadcasts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from sectum.graph.ir import Dataflow, Operator

Shape = tuple[int, ...]


def contiguous_run(op: Operator, graph: Dataflow, data: Shape, out: Shape) -> int:
    """Elements that an operator copies, reduces or combines in one piece."""
    rule = _RULES.get(op.type)
    if rule is not None:
        return max(1, rule(op, graph, data, out))
    if op.type.startswith(("Reduce", "Arg")):
        return max(1, _reduced(op, graph, data, out))
    return out[-1] if out else 1


def _axis(op: Operator, rank: int, default: int) -> int:
    value = op.attributes.get("axis", default)
    return value % max(1, rank) if isinstance(value, int) else default % max(1, rank)


def _transposed(op: Operator, _: Dataflow, data: Shape, __: Shape) -> int:
    """The axes at the end that stay where they are."""
    stated = op.attributes.get("perm")
    order: Sequence[object] = stated if isinstance(stated, tuple) and stated else range(len(data) - 1, -1, -1)
    kept = 0
    while kept < len(order) and order[-1 - kept] == len(order) - 1 - kept:
        kept += 1
    return math.prod(data[len(data) - kept :]) if kept else 1


def _from_axis(op: Operator, _: Dataflow, data: Shape, __: Shape) -> int:
    """Of the first input, all from the axis on."""
    return math.prod(data[_axis(op, len(data), 0) :]) if data else 1


def _behind_axis(op: Operator, _: Dataflow, data: Shape, __: Shape) -> int:
    """Of the first input, all behind the axis: one row that is gathered."""
    return math.prod(data[_axis(op, len(data), 0) + 1 :]) if data else 1


def along_last_axis(op: Operator, graph: Dataflow) -> bool:
    """Whether an operator that works along one axis works along the last one."""
    rank = len(graph.tensors[op.inputs[0]].shape)
    axis: object = op.attributes.get("axis", -1)
    if op.type == "CumSum":  # its axis is an input
        value = graph.tensors[op.inputs[1]].value if len(op.inputs) > 1 else None
        axis = int(value.reshape(-1)[0]) if value is not None and value.size else -1
    return not isinstance(axis, int) or axis % max(1, rank) == max(1, rank) - 1


def _along_axis(op: Operator, graph: Dataflow, data: Shape, _: Shape) -> int:
    """The axis itself where it is the last one, else single elements."""
    return data[-1] if data and along_last_axis(op, graph) else 1


def _shared_end(op: Operator, graph: Dataflow, data: Shape, out: Shape) -> int:
    """The axes at the end that are whole, and the part of the next one; none of an axis that a slice steps along."""
    stepped = _stepped_axes(op, graph, len(data))
    run = 1
    for axis in range(min(len(data), len(out))):
        mine, made = data[-1 - axis], out[-1 - axis]
        if len(data) - 1 - axis in stepped:
            return run
        if mine != made:
            return run if min(mine, made) == 1 else run * min(mine, made)
        run *= made
    return run


def _expanded(_: Operator, __: Dataflow, data: Shape, out: Shape) -> int:
    """The mean piece that is copied: what lies behind the last stretched axis first, then twice as much each time."""
    data = (1,) * (len(out) - len(data)) + data
    axis = len(out) - 1
    while axis >= 0 and data[axis] == out[axis]:
        axis -= 1
    pieces = math.prod(data[: axis + 1])
    while axis >= 0:
        stretch = 1
        while axis >= 0 and (data[axis] != out[axis] or out[axis] == 1):  # neighbours are stretched together
            stretch *= out[axis]
            axis -= 1
        pieces += math.prod(out[: axis + 1]) * max(1, (stretch - 1).bit_length())
        while axis >= 0 and data[axis] == out[axis]:
            axis -= 1
    return math.prod(out) // max(1, pieces)


def _stepped_axes(op: Operator, graph: Dataflow, rank: int) -> set[int]:
    """The axes along which a slice leaves elements out between those that it keeps."""
    if op.type != "Slice" or len(op.inputs) < 5 or not op.inputs[4]:
        return set()
    steps = graph.tensors[op.inputs[4]].value
    if steps is None:
        return set()
    named = graph.tensors[op.inputs[3]].value if op.inputs[3] else None
    axes = range(steps.size) if named is None else named.reshape(-1).tolist()
    pairs = zip(axes, steps.reshape(-1).tolist(), strict=False)
    return {int(axis) % max(1, rank) for axis, step in pairs if step != 1}


def _combined(op: Operator, graph: Dataflow, _: Shape, out: Shape) -> int:
    """The axes at the end over which the same operands are stretched."""
    shapes = [graph.tensors[name].shape for name in op.inputs if name]
    padded = [(1,) * (len(out) - len(shape)) + shape for shape in shapes]
    run, before = 1, None
    for axis in range(len(out) - 1, -1, -1):
        if out[axis] == 1:
            continue
        stretched = tuple(shape[axis] == 1 for shape in padded)
        if before not in (None, stretched):
            break
        before = stretched
        run *= out[axis]
    return run


def _reduced(op: Operator, graph: Dataflow, data: Shape, _: Shape) -> int:
    """The axes at the end that are all reduced, or all kept."""
    axes = reduced_axes(op, graph, len(data))
    run, last = 1, len(data) - 1
    for axis in range(last, -1, -1):
        if (axis in axes) != (last in axes):
            break
        run *= data[axis]
    return run


def reduced_axes(op: Operator, graph: Dataflow, rank: int) -> set[int]:
    """The axes that a reduction of a tensor of this rank goes over."""
    stated = op.attributes.get("axes")
    if op.type.startswith("Arg"):
        return {_axis(op, rank, 0)}
    if isinstance(stated, tuple):
        return {int(axis) % rank for axis in stated}
    value = graph.tensors[op.inputs[1]].value if len(op.inputs) > 1 and op.inputs[1] else None
    return {int(axis) % rank for axis in value.reshape(-1).tolist()} if value is not None else set(range(rank))


def _single(_: Operator, __: Dataflow, ___: Shape, ____: Shape) -> int:
    """One element at a time."""
    return 1


_RULES: dict[str, Callable[[Operator, Dataflow, Shape, Shape], int]] = {
    "Transpose": _transposed,
    **dict.fromkeys(("Concat", "Split", "QLinearConcat"), _from_axis),
    **dict.fromkeys(("Gather",), _behind_axis),
    **dict.fromkeys(("Softmax", "LogSoftmax", "CumSum", "TopK", "LpNormalization"), _along_axis),
    **dict.fromkeys(("Slice", "Pad", "Tile"), _shared_end),
    "Expand": _expanded,
    "ScatterElements": _single,
    **dict.fromkeys(
        (
            "Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu", "Pow", "Where", "Equal", "Greater", "Less",
            "GreaterOrEqual", "LessOrEqual", "And", "Or", "Xor", "Mod",
        ),
        _combined,
    ),
}  # fmt: skip
