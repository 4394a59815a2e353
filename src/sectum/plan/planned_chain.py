"""A plan for several enclaves, and what it is predicted to take."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from sectum.plan.assignment import LATENCY
from sectum.plan.layout import Layout
from sectum.plan.links import LinkCosts
from sectum.plan.opening import OpeningCosts
from sectum.plan.planned import StagePrediction
from sectum.plan.stages import PlannedStage
from sectum.predict.prediction import Interval


@dataclass(frozen=True)
class PlannedEnclave:
    """What one enclave of a chain runs, and what that is predicted to take.

    Attributes:
        stages: in order.
        buffers: that streamed weights are opened into.
        layout: of its memory.
        fits: whether its working set is at most its EPC; else some pages are loaded.
        by_stage: what each stage takes.
        received_bytes: of the message that it opens; 0 in the first enclave.
        sent_bytes: of the message that it seals; 0 in the last enclave.
        opening_ms: to open what it receives.
        sealing_ms: to seal what it sends.
        busy_ms: time of one inference in this enclave, these two included.
        interval_ms: the 90 % interval of that.
        link_ms: time of a message to the next enclave; 0 for the last one.
        occupied_ms: part of it for which the link can carry no other message.
    """

    stages: tuple[PlannedStage, ...]
    buffers: int
    layout: Layout
    fits: bool
    by_stage: tuple[StagePrediction, ...]
    received_bytes: int
    sent_bytes: int
    opening_ms: float
    sealing_ms: float
    busy_ms: float
    interval_ms: Interval
    link_ms: float
    occupied_ms: float

    @property
    def opened_bytes(self) -> int:
        """Weights that it opens in one inference."""
        return sum(stage.opened_bytes for stage in self.stages)


@dataclass(frozen=True)
class PlannedChain:
    """A way to run a network in several enclaves, and what it is predicted to take.

    Attributes:
        enclaves: in the order in which a request passes through them.
        native_ms: latency outside an enclave.
        unplanned_ms: latency in one of these enclaves without a plan.
        unplanned_interval_ms: its 90 % interval.
        costs: of opening weights and of stages, that the prediction used.
        link_costs: of sealing and opening what crosses.
    """

    enclaves: tuple[PlannedEnclave, ...]
    native_ms: float
    unplanned_ms: float
    unplanned_interval_ms: Interval
    costs: OpeningCosts
    link_costs: LinkCosts

    @property
    def stages(self) -> tuple[PlannedStage, ...]:
        """Of all enclaves, in order."""
        return tuple(stage for one in self.enclaves for stage in one.stages)

    @property
    def bounds(self) -> tuple[int, ...]:
        """The first stage of each enclave."""
        return tuple(accumulate((len(one.stages) for one in self.enclaves[:-1]), initial=0))

    @property
    def latency_ms(self) -> float:
        """Time of one request: all enclaves and all links, one after the other."""
        return sum(one.busy_ms + one.link_ms for one in self.enclaves)

    @property
    def interval_ms(self) -> Interval:
        """The 90 % interval of the latency."""
        links = sum(one.link_ms for one in self.enclaves)
        low, high = (sum(getattr(one.interval_ms, end) for one in self.enclaves) for end in ("low", "high"))
        return Interval(low + links, high + links)

    @property
    def pipeline_ms(self) -> float:
        """Time between two results when requests follow each other: that of the slowest enclave or link."""
        return max(max(one.busy_ms, one.occupied_ms) for one in self.enclaves)

    @property
    def opened_bytes(self) -> int:
        """Weights that are opened in one inference."""
        return sum(one.opened_bytes for one in self.enclaves)

    @property
    def changes_outputs(self) -> bool:
        """Whether outputs differ from those of the network without a plan."""
        return any(stage.int8 for stage in self.stages)

    @property
    def as_it_is(self) -> bool:
        """Whether it is a network without a plan: never."""
        return False

    def key(self, goal: str) -> tuple[int, float, float]:
        """What makes a plan better: first that all enclaves fit, then the goal, then the other time."""
        both = (self.latency_ms, self.pipeline_ms)
        unfit = sum(not one.fits for one in self.enclaves)
        return (unfit, *both) if goal == LATENCY else (unfit, *both[::-1])
