"""Finds the operators of a plan in the graph that the runtime has written.

The plan knows the executed graph from a model of the runtime. The runtime itself may put independent operators into
another order, and gives some tensors other names. So operators are matched by their types and by what they read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import NodeProto

Read = tuple[int, int] | str | None
"""What an input is: the position of the operator that makes it and of its output, or the name of a graph input, or
None for a weight or an input that is left out."""


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


def in_order_of(executed: ExecutedGraph, nodes: Sequence[NodeProto], inputs: Sequence[str]) -> list[NodeProto]:
    """Put written operators into the order of the plan.

    Args:
        executed: what the plan knows.
        nodes: what the runtime has written, in an order in which they can run.
        inputs: names of the graph's inputs.

    Raises:
        ValueError: the runtime executes something else.
    """
    waiting: dict[str, list[int]] = {}
    for position, kind in enumerate(executed.types):
        waiting.setdefault(kind, []).append(position)
    known: dict[str, Read] = {name: name for name in inputs}
    found: dict[int, NodeProto] = {}
    for node in nodes:
        kind = f"{node.domain}:{node.op_type}" if node.domain else node.op_type
        reads = _trimmed([known.get(name) for name in node.input])
        alike = [one for one in waiting.get(kind, ()) if _trimmed(executed.reads[one]) == reads]
        if not alike:
            raise ValueError(
                f"the runtime executes an operator '{node.name}' ({kind}) that the plan does not know: "
                "this model runs without a plan only"
            )
        position = next((one for one in alike if executed.names[one] == node.name), alike[0])
        waiting[kind].remove(position)
        found[position] = node
        known.update({name: (position, number) for number, name in enumerate(node.output) if name})
    if len(found) != len(executed.types):
        raise ValueError(
            f"the runtime executes {len(found)} operators, and the plan knows {len(executed.types)}: this model runs "
            "without a plan only"
        )
    return [found[position] for position in range(len(found))]


def _trimmed(reads: Sequence[Read]) -> list[Read]:
    """Without weights and inputs that are left out at the end."""
    # A pair from JSON is a list of two.
    kept = [tuple(read) if isinstance(read, list) else read for read in reads]
    while kept and kept[-1] is None:
        kept.pop()
    return kept
