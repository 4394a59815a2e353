"""Slices and rows that together are a whole tensor become one Split."""

from __future__ import annotations

from typing import NamedTuple

from sectum.graph.ir import Tensor
from sectum.ort.workgraph import Node, WorkGraph, sources_of


class _Part(NamedTuple):
    start: int
    end: int
    axis: int
    node: Node


def slices_to_split(work: WorkGraph, name: str) -> None:
    """Replace the parts that are taken from a tensor by a Split, if they lie along one axis and nothing is left.

    A part is a Slice in steps of 1 along one axis, or a Gather of one row, which becomes a Squeeze.
    """
    tensor = work.tensors[name]
    readers = [node for node in work.consumers.get(name, ()) if node.inputs[0] == name]
    parts = [part for node in readers if (part := _part(work, node, tensor)) is not None]
    if len(parts) < 2 or any(part.axis != parts[0].axis for part in parts):
        return
    parts.sort(key=lambda part: part.start)
    axis = parts[0].axis
    ends = [0, *(part.end for part in parts)]
    if [part.start for part in parts] != ends[:-1] or ends[-1] != tensor.shape[axis]:
        return
    sizes = tuple([part.end - part.start for part in parts])
    made, squeezed = [], []
    for part in parts:
        result = part.node.outputs[0]
        work.remove(part.node)
        if part.node.type == "Gather" and len(work.tensors[result].shape) < len(tensor.shape):
            shape = (*tensor.shape[:axis], 1, *tensor.shape[axis + 1 :])
            piece = work.new_tensor(result, shape, work.tensors[result])
            squeezed.append((piece, result, part.node))
            made.append(piece)
        else:
            made.append(result)
    nodes = [part.node for part in parts]
    work.add("Split", [name, work.new_shape(sizes)], made, {"axis": axis}, sources=sources_of(*nodes))
    for piece, result, node in squeezed:
        work.add("Squeeze", [piece, work.new_shape((axis,))], [result], sources=sources_of(node))


def _part(work: WorkGraph, node: Node, tensor: Tensor) -> _Part | None:
    if node.domain:
        return None
    if node.type == "Slice":
        return _slice(work, node, tensor)
    return _row(work, node, tensor) if node.type == "Gather" else None


def _slice(work: WorkGraph, node: Node, tensor: Tensor) -> _Part | None:
    bounds = [_integers(work, node, slot) for slot in (1, 2, 3)]
    steps = _integers(work, node, 4) if len(node.inputs) > 4 and node.inputs[4] else (1,)
    if steps != (1,) or any(values is None or len(values) != 1 for values in bounds):
        return None
    start, end, axis = (values[0] for values in bounds if values)
    axis %= len(tensor.shape)
    size = tensor.shape[axis]
    start, end = (min(max(value + size if value < 0 else value, 0), size) for value in (start, end))
    return _Part(start, end, axis, node) if start < end else None


def _row(work: WorkGraph, node: Node, tensor: Tensor) -> _Part | None:
    index = _integers(work, node, 1)
    axis = node.attributes.get("axis", 0)
    if index is None or len(index) != 1 or not isinstance(axis, int):
        return None
    axis %= len(tensor.shape)
    start = index[0] % tensor.shape[axis]
    return _Part(start, start + 1, axis, node)


def _integers(work: WorkGraph, node: Node, slot: int) -> tuple[int, ...] | None:
    tensor = work.weight(node.inputs[slot]) if len(node.inputs) > slot else None
    if tensor is None or tensor.value is None:
        return None
    return tuple(tensor.value.astype(int).ravel().tolist())
