"""Which integers an input may hold: the operators that read it say so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from sectum.graph.ir import Graph, Operator

Range = tuple[int, int]
"""The smallest value, and the largest one plus 1."""

_PASSING = frozenset(
    {"Cast", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
"""Operators whose output holds values of their first input, unchanged."""


def input_ranges(graph: Graph) -> dict[str, Range]:
    """Find the values that each integer input may hold: rows of the tables that it indexes, classes of a one-hot.

    Returns:
        a range for each integer input whose values an operator restricts.
    """
    readers: dict[str, list[tuple[Operator, int]]] = {}
    for op in graph.operators:
        for position, name in enumerate(op.inputs):
            readers.setdefault(name, []).append((op, position))
    found: dict[str, Range] = {}
    for name in graph.inputs:
        if "int" not in graph.tensors[name].dtype:
            continue
        ranges = list(_restrictions(graph, readers, name))
        if ranges:
            low = max(r[0] for r in ranges)
            found[name] = (low, max(low + 1, min(r[1] for r in ranges)))
    return found


def _restrictions(graph: Graph, readers: Mapping[str, list[tuple[Operator, int]]], start: str) -> Iterator[Range]:
    """The ranges that the readers of a tensor allow, and those of what passes its values on."""
    waiting, seen = [(start, 0)], {start}
    while waiting:
        name, added = waiting.pop()
        for op, position in readers.get(name, ()):
            rule = _RULES.get(op.qualified_type)
            size = rule(graph, op, position) if rule else None
            if size is not None:
                yield max(0, -added), size - added
            passed = added if op.type in _PASSING and position == 0 else _shifted(graph, op, position, added)
            if passed is not None and op.outputs[0] not in seen:
                seen.add(op.outputs[0])
                waiting.append((op.outputs[0], passed))


def _shifted(graph: Graph, op: Operator, position: int, added: int) -> int | None:
    """What an addition of a known constant adds in all; None for any other operator. Positions start at 2, say."""
    if op.qualified_type != "Add":
        return None
    value = graph.tensors[op.inputs[1 - position]].value
    if value is None or value.size != 1 or value.dtype.kind not in "iu":
        return None
    return added + int(value.reshape(-1)[0])


def _rows(data: int, indices: int) -> Callable[[Graph, Operator, int], int | None]:
    """A rule for an operator that indexes one axis of input ``data`` by input ``indices``."""

    def rule(graph: Graph, op: Operator, position: int) -> int | None:
        shape = graph.tensors[op.inputs[data]].shape
        axis = op.attributes.get("axis", 0)
        if position != indices or not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
            return None
        return shape[axis]

    return rule


def _coordinates(graph: Graph, op: Operator, position: int) -> int | None:
    """GatherND and ScatterND: the last axis of the indices holds one coordinate for each leading axis of the data."""
    if position != 1:
        return None
    shape, indices = graph.tensors[op.inputs[0]].shape, graph.tensors[op.inputs[1]].shape
    first = op.attributes.get("batch_dims", 0)
    indexed = shape[first : first + indices[-1]] if isinstance(first, int) and indices else ()
    return min(indexed, default=None)


def _classes(graph: Graph, op: Operator, position: int) -> int | None:
    """OneHot: values below the depth."""
    depth = graph.tensors[op.inputs[1]].value
    if position != 0:
        return None
    if depth is not None and depth.size == 1:
        return int(depth.reshape(-1)[0])
    axis = op.attributes.get("axis", -1)
    made = graph.tensors[op.outputs[0]].shape
    return made[axis] if isinstance(axis, int) and -len(made) <= axis < len(made) else None


def _embeddings(graph: Graph, op: Operator, position: int) -> int | None:
    """The fused embedding of ONNX Runtime's transformer tools: word, position and segment tables are inputs 2 to 4."""
    table = {0: 2, 1: 4, 8: 3}.get(position)
    if table is None or table >= len(op.inputs) or not op.inputs[table]:
        return None
    return graph.tensors[op.inputs[table]].shape[0]


_RULES: Mapping[str, Callable[[Graph, Operator, int], int | None]] = {
    "Gather": _rows(0, 1),
    "GatherElements": _rows(0, 1),
    "ScatterElements": _rows(0, 1),
    "GatherND": _coordinates,
    "ScatterND": _coordinates,
    "OneHot": _classes,
    "com.microsoft:EmbedLayerNormalization": _embeddings,
}
