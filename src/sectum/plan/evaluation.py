"""What plans of one network take in one enclave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sectum.enclave.profile import Profile, streamed_bytes
from sectum.errors import UsageError
from sectum.ort.optimized import OptimizedGraph
from sectum.paging.replacement import PagingCounts, all_fit, steady_state
from sectum.plan.divisions import division_ms
from sectum.plan.layout import Layout, lay_out
from sectum.plan.opening import OpeningCosts
from sectum.plan.order import in_order
from sectum.plan.planned import Candidate, Planned, StagePrediction
from sectum.plan.stage_memory import StageMemory
from sectum.plan.stages import PlannedStage
from sectum.plan.strip_costs import StripCosts
from sectum.plan.timeline import timeline
from sectum.plan.ways import Way
from sectum.predict.prediction import Interval
from sectum.predict.predictor import Predictor
from sectum.predict.prepared import Prepared
from sectum.units import PAGE_BYTES

if TYPE_CHECKING:
    from sectum.paging.compiled_replacement import CompiledReplacement

BUFFERS_AHEAD = (2, 3, 4)
_OPENING_UNCERTAINTY = 0.25


@dataclass(frozen=True)
class Shared:
    """What plans of one network leave for those of the next. Plans are the same with it and without.

    Attributes:
        strips: costs of strips of operators that are alike.
        compiled: the compiled page-replacement rule; None for the one in Python.
    """

    strips: StripCosts = field(default_factory=StripCosts)
    compiled: CompiledReplacement | None = None


class Evaluator:
    """Predicts what plans of one network take in one enclave.

    Args:
        predictor: predicts its operators.
        prepared: the network with all threads computing.
        profile: the enclave.
        costs: of opening and of stages.
        fewer_threads: the network with one thread less, for plans in which that one opens; None with one thread.
        shared: what plans of one network leave for those of the next; None to begin with nothing.

    Raises:
        UsageError: the profile has no EPC, so there is nothing to plan.
    """

    def __init__(
        self,
        predictor: Predictor,
        prepared: Prepared,
        profile: Profile,
        costs: OpeningCosts,
        fewer_threads: Prepared | None = None,
        shared: Shared | None = None,
    ) -> None:
        if profile.epc_bytes is None:
            raise UsageError(f"'{profile.name}' has no EPC: there is nothing to plan; choose another --enclave")
        self._predictor, self._costs, self._shared = predictor, costs, shared or Shared()
        self._memories: dict[tuple[int, int], StageMemory] = {}
        self._networks = {1: prepared}
        self._opening = {1: costs}
        if fewer_threads is not None:
            self._networks |= dict.fromkeys(BUFFERS_AHEAD, fewer_threads)
            self._opening |= dict.fromkeys(BUFFERS_AHEAD, costs.beside_computing())
        self._profile = predictor.with_measured_costs(profile, prepared.threads, prepared.native_source)
        self._epc_bytes = profile.epc_bytes
        self.unplanned_ms, self.unplanned_interval_ms = predictor.latency_and_interval(
            prepared, profile, self._shared.compiled
        )
        alone = self._computing_ms(prepared)
        ahead = alone if fewer_threads is None else self._computing_ms(fewer_threads)
        self._unlimited: dict[int, tuple[float, Interval]] = {}
        self._compute_ms = {buffers: ahead if buffers > 1 else alone for buffers in self._networks}

    @property
    def epc_bytes(self) -> int:
        """Of the enclave."""
        return self._epc_bytes

    @property
    def calibrated(self) -> bool:
        """Whether this machine was calibrated."""
        return self._predictor.calibration is not None

    @property
    def machine(self) -> str:
        """Whose milliseconds the predictions are."""
        return self._predictor.machine

    @property
    def graph(self) -> OptimizedGraph:
        """What the runtime executes."""
        return self._networks[1].optimized

    def _computing_ms(self, network: Prepared) -> list[float]:
        """Milliseconds of each operator in the enclave, without page faults."""
        streamed = np.array([streamed_bytes(cost.weight_bytes, cost.flops) for cost in network.features.costs])
        counts = all_fit(network.trace.pages, len(network.optimized.operators))
        compute_ms, memory_ms, _ = self._profile.by_operator_ms(network.native_ms, streamed, counts, network.threads)
        found: list[float] = (compute_ms + memory_ms).tolist()
        return found

    def _laid_out(self, way: Way, stages: Sequence[PlannedStage], buffers: int) -> Layout:
        threads = self._networks[buffers].threads
        key = (id(way.graph), threads)  # what is kept holds the graph, so its id stays its own
        if key not in self._memories:
            self._memories[key] = StageMemory(way.graph, threads)
        return lay_out(way.graph, stages, buffers, threads, self._memories[key])

    def evaluate(self, stages: Sequence[PlannedStage], buffers: int, order: tuple[int, ...] | None = None) -> Planned:
        """Predict what given stages take.

        Args:
            stages: in order.
            buffers: that weights are opened into.
            order: of the operators, where it is not the runtime's.

        Raises:
            UsageError: more than one buffer, and only one thread.
        """
        if buffers not in self._networks:
            raise UsageError(f"a plan with {buffers} buffers needs a thread that opens: give --threads 2 or more")
        way = Way(self.graph if order is None else in_order(self.graph, order), order)
        return self._evaluated(Candidate(way, tuple(stages), buffers, self._laid_out(way, stages, buffers)))

    def _evaluated(self, candidate: Candidate) -> Planned:
        stages, buffers, layout = candidate.stages, candidate.buffers, candidate.layout
        network = self._networks[buffers]
        counts = self._counts(layout, len(stages))
        paging_ms = self._paging_ms(counts, len(stages))
        opening, computing = self._parts_ms(candidate.way, stages, buffers)
        times = timeline(opening, computing, buffers)
        entry_ms = self._profile.entry_ms(network.crossing_bytes, network.threads)
        latency_ms = times[-1].computing.end_ms + sum(paging_ms) + entry_ms
        interval = self._interval(opening, computing, buffers, sum(paging_ms) + entry_ms)
        return Planned(
            way=candidate.way,
            stages=stages,
            buffers=buffers,
            layout=layout,
            latency_ms=latency_ms,
            interval_ms=interval,
            native_ms=float(self._networks[1].native_ms.sum()),
            unplanned_ms=self.unplanned_ms,
            unplanned_interval_ms=self.unplanned_interval_ms,
            by_stage=tuple(
                StagePrediction(one, ms, loads)
                for one, ms, loads in zip(times, paging_ms, counts.loads_by_operator.tolist(), strict=True)
            ),
            costs=self._costs,
        )

    def _parts_ms(
        self, way: Way, stages: Sequence[PlannedStage], buffers: int
    ) -> tuple[list[float | None], list[float]]:
        """Time to open each stage, None where its weights stay, and time to compute it."""
        compute_ms = way.in_order(self._compute_ms[buffers])
        computing = [self._costs.stage_ms + self._share_ms(stage, compute_ms) for stage in stages]
        opening = [
            self._opening[buffers].open_ms(stage.weight_bytes, int8=stage.int8) if stage.streamed else None
            for stage in stages
        ]
        return opening, computing

    def _counts(self, layout: Layout, stages: int) -> PagingCounts:
        if layout.working_set_bytes <= self._epc_bytes:
            return all_fit(layout.working_set_bytes // PAGE_BYTES, stages)
        return steady_state(
            layout.touches,
            self._epc_bytes // PAGE_BYTES,
            self._profile.policy,
            operators=stages,
            compiled=self._shared.compiled,
        )

    def _share_ms(self, stage: PlannedStage, compute_ms: Sequence[float]) -> float:
        own = compute_ms[stage.first : stage.last + 1]
        if stage.division is not None:
            return division_ms(stage.division, own, self._costs.stage_ms)
        whole = sum(own)
        if stage.channels is None:
            return whole
        begin, end = stage.channels
        return whole * (end - begin) / max(1, stage.of_channels)

    def _paging_ms(self, counts: PagingCounts, count: int) -> list[float]:
        """Milliseconds of the page faults of each stage."""
        threads = self._networks[1].threads
        total_ms = self._profile.paging_ms(counts, threads)
        faults = (counts.loads_by_operator + counts.evictions_by_operator + counts.minor_faults_by_operator).tolist()
        all_faults = sum(faults)
        return [total_ms * one / all_faults for one in faults] if all_faults else [0.0] * count

    def _interval(
        self, opening: Sequence[float | None], computing: Sequence[float], buffers: int, rest_ms: float
    ) -> Interval:
        """The interval of the native prediction, and that of the cost of opening, both at their ends."""
        if buffers not in self._unlimited:
            unlimited = self._profile.with_epc(1 << 46)
            self._unlimited[buffers] = self._predictor.latency_and_interval(self._networks[buffers], unlimited)
        middle, native = self._unlimited[buffers]

        def at(share: float, opening_share: float) -> float:
            opened = [None if ms is None else ms * opening_share for ms in opening]
            ends = timeline(opened, [ms * share for ms in computing], buffers)[-1].computing.end_ms
            return ends + rest_ms * (opening_share if rest_ms else 1.0)

        scale = middle or 1.0
        return Interval(
            at(native.low / scale, 1 - _OPENING_UNCERTAINTY), at(native.high / scale, 1 + _OPENING_UNCERTAINTY)
        )
