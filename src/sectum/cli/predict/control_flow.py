"""Networks in which the inputs' values decide what runs: one graph for each choice, or a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sectum.errors import OperatorUnsupported, ShapeInconsistent

if TYPE_CHECKING:
    from sectum.cli.options import Inputs
    from sectum.graph import Model
    from sectum.graph.inference_context import Typed
    from sectum.graph.ir import Graph, Operator

_LOOPS = ("Loop", "Scan", "SequenceMap")
_MOST_GRAPHS = 16
_NAME_CHARACTERS = 60


def alternatives(model: Model, batch: int | None, inputs: Inputs, learned: Mapping[str, Typed]) -> list[Graph]:
    """Graphs of all choices that the values of the inputs can make; a single one where they make none.

    A branch that does not fit the shapes is no choice.

    Raises:
        OperatorUnsupported: the network has loops, or too many choices.
        ShapeUnbound: the value of a small input makes a choice and was not given.
        ShapeInconsistent: no choice fits the shapes.
    """
    found: list[Graph] = []
    waiting: list[dict[str, bool]] = [{}]
    problem: ShapeInconsistent | None = None
    while waiting:
        branches = waiting.pop()
        graph = model.graph
        if branches:
            try:
                graph = model.parsed.bind(batch=batch, inputs=inputs, learned=learned, branches=branches).graph
            except ShapeInconsistent as error:
                problem = error
                continue
        _refuse_loops(graph)
        choice = next((op for op in graph.operators if op.qualified_type == "If"), None)
        if choice is None:
            found.append(graph)
        else:
            if not branches:
                model.parsed.require_values(choice.inputs[0], f"the branch of {_label(choice)}", batch, inputs)
            first = next(filter(None, choice.outputs))
            waiting += [{**branches, first: False}, {**branches, first: True}]
        if len(found) + len(waiting) > _MOST_GRAPHS:
            raise OperatorUnsupported(
                f"the inputs' values decide between more than {_MOST_GRAPHS} ways through the network, as at "
                f"{_label(choice) if choice else 'its branches'}: 'sectum measure' measures one of them"
            )
    if not found and problem is not None:
        raise problem
    return found


def _refuse_loops(graph: Graph) -> None:
    for op in graph.operators:
        if op.qualified_type in _LOOPS:
            raise OperatorUnsupported(
                f"{_label(op)} runs its operators as often as the inputs decide, and Sectum does not model that: "
                "'sectum measure' measures it"
            )


def _label(op: Operator) -> str:
    return f"operator '{op.name[:_NAME_CHARACTERS]}' ({op.type})"
