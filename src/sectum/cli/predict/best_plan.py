"""The best plan for a network that pages: what the end of a prediction and of a report says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sectum.cli.render.command_line import typed
from sectum.cli.render.figures import milliseconds, times
from sectum.predict.prediction import GUESS
from sectum.units import format_bytes

if TYPE_CHECKING:
    from sectum.cli.predict.predicting import PredictionResult
    from sectum.plan.planned import Planned

_HELPS = 1.05
"""A plan helps where the network is so many times slower without it."""


@dataclass(frozen=True, slots=True)
class BestPlan:
    """A plan that helps."""

    planned: Planned
    epc_bytes: int
    command: str

    @property
    def sentence(self) -> str:
        """What it takes, and how to get it."""
        planned = self.planned
        return (
            f"Streamed, it takes about {milliseconds(planned.latency_ms)} in the same {format_bytes(self.epc_bytes)}, "
            f"{times(planned.unplanned_ms / planned.latency_ms)} faster: run '{self.command}'."
        )

    def to_json(self) -> dict[str, Any]:
        """Give its numbers as JSON types."""
        planned = self.planned
        return {
            "kind": "predicted",
            "latency_ms": planned.latency_ms,
            "interval_ms": [planned.interval_ms.low, planned.interval_ms.high],
            "unplanned_ms": planned.unplanned_ms,
            "speedup": planned.unplanned_ms / planned.latency_ms,
            "resident_bytes": planned.layout.working_set_bytes,
            "opened_bytes": planned.opened_bytes,
            "stages": len(planned.stages),
            "command": self.command,
            "text": self.sentence,
        }


def best_plan(result: PredictionResult) -> BestPlan | None:
    """The best plan for what was predicted; None where it does not page, or no plan helps or can be made."""
    request, prediction = result.request, result.prediction
    epc_bytes = result.profile.epc_bytes
    if epc_bytes is None or not prediction.overcommit.predicted or prediction.grade.word == GUESS:
        return None
    shapes_only = all(isinstance(given, tuple) for given in request.inputs.values())
    if prediction.native_source == "given" or not shapes_only or len(result.source.graphs) > 1:
        return None  # 'sectum plan' would plan for something else
    from sectum.plan.opening import costs_for
    from sectum.plan.planning import Planner

    predictor, threads = result.predictor, request.threads
    fewer = predictor.prepare(result.prepared.source, threads=threads - 1) if threads > 1 else None
    planned = Planner(predictor, result.prepared, result.profile, costs_for(predictor), fewer).best()
    if planned.as_it_is or planned.unplanned_ms < _HELPS * planned.latency_ms:
        return None
    command = typed(
        "plan",
        request.model,
        enclave=request.enclave,
        epc_bytes=request.epc_bytes,
        batch=request.batch,
        inputs=request.inputs,
        threads=threads,
    )
    return BestPlan(planned, epc_bytes, command)
