"""A plan that was found: how a network runs, and what that is predicted to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sectum.plan.layout import Layout
from sectum.plan.opening import OpeningCosts
from sectum.plan.stages import PlannedStage
from sectum.plan.timeline import StageTimes
from sectum.plan.ways import Way
from sectum.predict.prediction import Interval


@dataclass(frozen=True, slots=True)
class StagePrediction:
    """What one stage is predicted to take.

    Attributes:
        times: when it is opened and computed.
        paging_ms: time of its page faults, which is part of neither.
        loads: pages loaded while it runs.
    """

    times: StageTimes
    paging_ms: float
    loads: float


@dataclass(frozen=True)
class Planned:
    """A way to run a network, and what it is predicted to take.

    Attributes:
        way: in which order the operators run, and which are divided by rows.
        stages: in order.
        buffers: that weights are opened into, in turn; with more than one, a thread opens ahead.
        layout: of its memory.
        latency_ms: predicted.
        interval_ms: its 90 % interval.
        native_ms: latency outside an enclave, with all threads computing.
        unplanned_ms: latency in the same enclave without a plan.
        unplanned_interval_ms: its 90 % interval.
        by_stage: what each stage takes.
        costs: of opening and of stages, that the prediction used.
    """

    way: Way
    stages: tuple[PlannedStage, ...]
    buffers: int
    layout: Layout
    latency_ms: float
    interval_ms: Interval
    native_ms: float
    unplanned_ms: float
    unplanned_interval_ms: Interval
    by_stage: tuple[StagePrediction, ...]
    costs: OpeningCosts

    @property
    def opened_bytes(self) -> int:
        """Weights that are opened in one inference."""
        return sum(stage.opened_bytes for stage in self.stages)

    @property
    def changes_outputs(self) -> bool:
        """Whether outputs differ from those of the network without a plan."""
        return any(stage.int8 for stage in self.stages)

    @property
    def as_it_is(self) -> bool:
        """Whether the best is to run the network without a plan."""
        return _is_whole(self.way, self.stages)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plan whose time is not known yet."""

    way: Way
    stages: tuple[PlannedStage, ...]
    buffers: int
    layout: Layout

    @property
    def as_it_is(self) -> bool:
        """Whether it is the network without a plan."""
        return _is_whole(self.way, self.stages)

    def missing_bytes(self, epc_bytes: int) -> int:
        """By how much it is too large for the EPC; negative where it fits."""
        return self.layout.working_set_bytes - epc_bytes


def _is_whole(way: Way, stages: Sequence[PlannedStage]) -> bool:
    (first, *others) = stages
    return not (others or first.streamed or first.division) and way.order is None
