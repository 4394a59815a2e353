"""Shapes that Sectum cannot compute, told by one run of the model in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sectum.errors import EnclaveError, RuntimeRefused

if TYPE_CHECKING:
    from sectum.cli.options import Inputs
    from sectum.graph import ParsedModel
    from sectum.graph.inference_context import ShapeUnknown, Typed

_DEADLINE_S = 60.0
_MOST_RUNS = 4  # each tells the shapes of all operators of one more type
_NAME_CHARACTERS = 60


def shapes_by_running(
    parsed: ParsedModel, problem: ShapeUnknown, batch: int | None, inputs: Inputs
) -> tuple[dict[str, Typed], list[str]]:
    """Shapes that no rule tells, by name of the tensor, and notes that say where they come from.

    Raises:
        ShapeUnbound: the value of an input decides a shape and was not given.
        ShapeUnknown: the run does not tell the shape either.
    """
    from sectum.graph.inference_context import ShapeUnknown

    learned: dict[str, Typed] = {}
    kinds: dict[str, None] = {}
    decided = False
    for _ in range(_MOST_RUNS):
        if problem.decided_by is not None:
            parsed.require_values(problem.decided_by, f"a shape ({problem})", batch, inputs)
        found = _run(parsed, problem, batch, inputs)
        if found.keys() <= learned.keys():
            break
        learned |= found
        kinds[":".join(filter(None, problem.op_type))[:_NAME_CHARACTERS]] = None
        decided |= problem.decided_by is not None
        try:
            parsed.bind(batch=batch, inputs=inputs, learned=learned)
        except ShapeUnknown as next_problem:
            problem = next_problem
        else:
            return learned, _notes(list(kinds), decided)
    raise problem


def _run(parsed: ParsedModel, problem: ShapeUnknown, batch: int | None, inputs: Inputs) -> dict[str, Typed]:
    from sectum.enclave.runners.native import NativeRunner
    from sectum.enclave.runners.runner import Job
    from sectum.graph.inference_context import ShapeUnknown

    probe = parsed.probe(problem, batch, inputs)
    try:
        with NativeRunner().start(Job(model=probe.model, inputs=probe.feeds, deadline_s=_DEADLINE_S)) as session:
            types = session.output_types()
    except (EnclaveError, RuntimeRefused) as error:
        raise ShapeUnknown(
            f"{problem}. A run of the model, which would tell it, failed: {error}", problem.op_type, problem.decided_by
        ) from error
    return {name: typed for name, typed in types.items() if name in probe.wanted}


def _notes(kinds: list[str], decided: bool) -> list[str]:
    notes = [f"ONNX Runtime ran the model once to tell shapes that Sectum cannot compute: those of {', '.join(kinds)}"]
    if decided:
        notes.append(
            "some shapes depend on the values of the inputs: those are predicted that the run had, for inputs that "
            "were given or made up"
        )
    return notes
