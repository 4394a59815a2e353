"""Slices and rows that together are the whole of a tensor become one Split.

Learned from onnxruntime/core/optimizer/gather_fusion.cc.
"""

from __future__ import annotations

from sectum.ort.workgraph import Node, WorkGraph, constant_integers, sources_of

_FIRST_OPSET = 13
_INTEGERS = ("int64",)

Part = tuple[int, int, bool]
"""First index, number of indices, and whether the axis goes."""


def fuse_into_splits(work: WorkGraph) -> None:
    """Replace the Gather and Slice operators that take a tensor apart by a Split, and a Squeeze for rows."""
    if work.opset < _FIRST_OPSET:
        return
    names = list(work.source.inputs)
    names += [
        node.outputs[0]
        for node in work.execution_order()
        if node.type != "Shape" and len(node.outputs) == 1 and work.uses(node.outputs[0]) > 1
    ]
    for name in names:
        _fuse(work, name)


def _fuse(work: WorkGraph, name: str) -> None:
    readers = [node for node in work.consumers.get(name, ()) if node.inputs[0] == name and _takes_part(node)]
    axes = {_axis(work, node) for node in readers}
    axis = next(iter(axes), None)
    if len(readers) < 2 or len(axes) > 1 or axis is None:
        return
    length = work.tensors[name].shape[axis]
    parts: dict[int, tuple[Part, Node]] = {}
    for node in readers:
        part = _part(work, node, length)
        if part is None or part[0] in parts:
            return
        parts[part[0]] = part, node
    end = 0
    for start in sorted(parts):
        if start != end:
            return
        end += parts[start][0][1]
    if end != length:
        return
    tensor = work.tensors[name]
    ordered = [parts[start] for start in sorted(parts)]
    results = [node.outputs[0] for _, node in ordered]
    for _, node in ordered:
        work.remove(node)
    outputs = []
    for ((_, size, goes), node), result in zip(ordered, results, strict=True):
        if goes:
            shape = (*tensor.shape[:axis], size, *tensor.shape[axis + 1 :])
            made = work.new_tensor(result, shape, work.tensors[result])
            work.shapeless.add(made)
            work.add("Squeeze", [made, work.new_shape((axis,))], [result], sources=node.sources)
            outputs.append(made)
        else:
            outputs.append(result)
    sizes = work.new_shape(tuple(size for (_, size, _), _ in ordered))
    kept = sources_of(*(node for (_, _, goes), node in ordered if not goes))
    work.add("Split", [name, sizes], outputs, {"axis": axis}, name=ordered[0][1].name, sources=kept)


def _takes_part(node: Node) -> bool:
    return node.type in ("Gather", "Slice") and not node.domain


def _one(work: WorkGraph, node: Node, slot: int) -> int | None:
    """The one number that an input holds, as the runtime reads it here: int64, of rank 0 or one element."""
    tensor = work.weight(node.inputs[slot]) if slot < len(node.inputs) else None
    if tensor is None or tensor.dtype not in _INTEGERS or tensor.shape not in ((), (1,)):
        return None
    found = constant_integers(work, node, slot)
    return found[0] if found else None


def _axis(work: WorkGraph, node: Node) -> int | None:
    rank = len(work.tensors[node.inputs[0]].shape)
    axis = node.attributes.get("axis", 0) if node.type == "Gather" else _one(work, node, 3)
    if not isinstance(axis, int) or not -rank <= axis < rank:
        return None
    return axis % rank


def _part(work: WorkGraph, node: Node, length: int) -> Part | None:
    if node.type == "Gather":
        index = _one(work, node, 1)
        if index is None or not -length <= index < length:
            return None
        return index % length, 1, not work.tensors[node.inputs[1]].shape
    start, end = _one(work, node, 1), _one(work, node, 2)
    if start is None or end is None or (len(node.inputs) > 4 and _one(work, node, 4) != 1):
        return None
    start, end = (min(max(value + length if value < 0 else value, 0), length) for value in (start, end))
    return (start, end - start, False) if start < end else None
