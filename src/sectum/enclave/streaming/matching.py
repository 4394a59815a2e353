"""Finds the operators of a plan in the graph that the runtime has written.

The plan knows the executed graph from a model of the runtime. The runtime itself may put independent operators into
another order, and gives some tensors other names. So operators are matched by their types and by what they read. Where
that fails, because the runtime has moved a transpose or the like to another place, operators that only move data are
left out of account: those that the plan does not know run right after what they read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import NodeProto

Read = tuple[int, int] | str | None
"""What an input is: the position of the operator that makes it and of its output, or the name of a graph input, or
None for a weight or an input that is left out."""

_MOVES_DATA = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "ReorderInput",
                         "ReorderOutput"})  # fmt: skip


@dataclass(frozen=True, slots=True)
class ExecutedGraph:
    """What the plan knows of the graph that the runtime executes; all by the operators' positions.

    Attributes:
        names: of the operators.
        types: their qualified types.
        reads: for each operator, what each input is.
        outputs: for each operator, element type and shape of each output.
        packed: for each operator, positions of inputs of which its kernel keeps a copy of its own.
    """

    names: Sequence[str]
    types: Sequence[str]
    reads: Sequence[Sequence[Read]]
    outputs: Sequence[Sequence[tuple[str, Sequence[int]]]]
    packed: Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Matched:
    """Written operators in the order of the plan.

    Attributes:
        nodes: for each position of the plan its operator; None where the runtime has none.
        others: for each position, operators that the plan does not know, which run right after it.
        exact: whether there are neither.
    """

    nodes: Sequence[NodeProto | None]
    others: Mapping[int, Sequence[NodeProto]]

    @property
    def exact(self) -> bool:
        """Whether the runtime executes just what the plan knows."""
        return not self.others and None not in self.nodes


def in_order_of(executed: ExecutedGraph, nodes: Sequence[NodeProto], inputs: Sequence[str]) -> Matched:
    """Put written operators into the order of the plan.

    Args:
        executed: what the plan knows.
        nodes: what the runtime has written, in an order in which they can run.
        inputs: names of the graph's inputs.

    Raises:
        ValueError: the runtime executes something else.
    """
    try:
        return _matched(executed, nodes, inputs, through=frozenset())
    except ValueError:
        return _matched(executed, nodes, inputs, through=_MOVES_DATA)


def _matched(
    executed: ExecutedGraph, nodes: Sequence[NodeProto], inputs: Sequence[str], through: frozenset[str]
) -> Matched:
    """Match; operators of the types in `through` are looked through, and may be missing or new."""
    reads_of = [_looked_through(executed, position, through) for position in range(len(executed.types))]
    waiting: dict[str, list[int]] = {}
    for position, kind in enumerate(executed.types):
        waiting.setdefault(kind, []).append(position)
    known: dict[str, Read] = {name: name for name in inputs}
    place = dict.fromkeys(inputs, 0)  # the position after which each value is there
    found: dict[int, NodeProto] = {}
    others: dict[int, list[NodeProto]] = {}
    for node in nodes:
        kind = f"{node.domain}:{node.op_type}" if node.domain else node.op_type
        reads = _trimmed([known.get(name) for name in node.input])
        alike = [one for one in waiting.get(kind, ()) if reads_of[one] == reads]
        after = max((place.get(name, 0) for name in node.input if name), default=0)
        moves = node.op_type in through
        position = next((one for one in alike if executed.names[one] == node.name), alike[0] if alike else -1)
        if position < 0 and not moves:
            raise ValueError(
                f"the runtime executes an operator '{node.name}' ({kind}) that the plan does not know: "
                "this model runs without a plan only"
            )
        if moves and position < after:
            position = -1  # at this position it could not run yet
        if position < 0:
            others.setdefault(after, []).append(node)
        else:
            if position < after:
                raise ValueError(f"the runtime executes '{node.name}' ({kind}) later than the plan")
            waiting[kind].remove(position)
            found[position] = node
        for number, name in enumerate(node.output):
            if name:
                known[name] = known.get(node.input[0]) if moves else (position, number)
                place[name] = after if position < 0 else position
    missing = [one for one in range(len(executed.types)) if one not in found]
    if any(executed.types[one].rpartition(":")[2] not in through for one in missing):
        raise ValueError(
            f"the runtime executes {len(nodes)} operators, and the plan knows {len(executed.types)}: this model runs "
            "without a plan only"
        )
    return Matched([found.get(position) for position in range(len(executed.types))], others)


def _looked_through(executed: ExecutedGraph, position: int, through: frozenset[str]) -> list[Read]:
    """What an operator reads, as the operators that do more than move data make it."""

    def origin(read: Read) -> Read:
        while isinstance(read, (tuple, list)) and executed.types[read[0]].rpartition(":")[2] in through:
            read = executed.reads[read[0]][0]
        return tuple(read) if isinstance(read, list) else read

    return _trimmed([origin(read) for read in executed.reads[position]])


def _trimmed(reads: Sequence[Read]) -> list[Read]:
    """Without weights and inputs that are left out at the end."""
    # A pair from JSON is a list of two.
    kept: list[Read] = [(read[0], read[1]) if isinstance(read, list) else read for read in reads]
    while kept and kept[-1] is None:
        kept.pop()
    return kept
