"""The best way to run a network in an enclave that is too small for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from sectum.enclave.profile import Profile, streamed_bytes
from sectum.errors import UsageError
from sectum.ort.optimized import OptimizedGraph
from sectum.paging.replacement import PagingCounts, all_fit, steady_state
from sectum.plan.cuts import StageCosts, at_least_ms, cut, grouped, least_room_bytes
from sectum.plan.divisions import division_ms
from sectum.plan.layout import Layout, lay_out
from sectum.plan.opening import OpeningCosts
from sectum.plan.order import in_order
from sectum.plan.stage_memory import StageMemory
from sectum.plan.stages import PlannedStage
from sectum.plan.strip_costs import StripCosts
from sectum.plan.timeline import StageTimes, timeline
from sectum.plan.units import Unit, WeightSizes, channels_of, units
from sectum.plan.ways import Way, other_ways
from sectum.predict.prediction import Interval
from sectum.predict.predictor import Predictor
from sectum.predict.prepared import Prepared
from sectum.units import PAGE_BYTES

if TYPE_CHECKING:
    from sectum.paging.compiled_replacement import CompiledReplacement

_SHARES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
"""Sizes of buffers that are tried: the EPC over these."""
BUFFERS_AHEAD = (2, 3, 4)
_LEAST_BUFFER_BYTES = 256 << 10
_ROUNDS = 5
_PAGING_CANDIDATES = 3
_WORTH = 0.99
"""Another order, strips or more stages have to bring the latency to this share: predictions are not exact."""
_PAGING_WORTH = 0.9
"""A plan that pages has to bring the latency to this share: which of its pages are loaded is predicted less exactly."""
_OPENING_UNCERTAINTY = 0.25


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
        (first, *others) = self.stages
        return not (others or first.streamed or first.division) and self.way.order is None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plan whose time is not known yet."""

    way: Way
    stages: tuple[PlannedStage, ...]
    buffers: int
    layout: Layout

    def missing_bytes(self, epc_bytes: int) -> int:
        """By how much it is too large for the EPC; negative where it fits."""
        return self.layout.working_set_bytes - epc_bytes


@dataclass(frozen=True)
class Shared:
    """What plans of one network leave for those of the next. Plans are the same with it and without.

    Attributes:
        strips: costs of strips of operators that are alike.
        compiled: the compiled page-replacement rule; None for the one in Python.
    """

    strips: StripCosts = field(default_factory=StripCosts)
    compiled: CompiledReplacement | None = None


class Planner:
    """Plans one network for one enclave.

    Args:
        predictor: predicts its operators.
        prepared: the network with all threads computing.
        profile: the enclave.
        costs: of opening and of stages.
        fewer_threads: the network with one thread less, for plans in which that one opens; None with one thread.
        shared: what plans of one network leave for those of the next; None to begin with nothing.
        int8: whether streamed weights are stored as int8 and widened on use, which changes outputs.

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
        *,
        int8: bool = False,
    ) -> None:
        if profile.epc_bytes is None:
            raise UsageError(f"'{profile.name}' has no EPC: there is nothing to plan; choose another --enclave")
        self._predictor, self._costs, self._shared = predictor, costs, shared or Shared()
        self._int8 = int8
        self._sizes = WeightSizes(prepared.optimized)
        self._memories: dict[tuple[int, int], StageMemory] = {}
        self._known_ways: dict[int, list[Way]] = {}
        self._networks = {1: prepared}
        self._opening = {1: costs}
        if fewer_threads is not None:
            self._networks |= dict.fromkeys(BUFFERS_AHEAD, fewer_threads)
            self._opening |= dict.fromkeys(BUFFERS_AHEAD, costs.beside_computing())
        self._native_source = prepared.native_source
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

    def best(self) -> Planned:
        """The plan with the least predicted latency; the simpler one where another gains next to nothing."""
        plain = Way(self.graph, activation_bytes=self.graph.lifetimes.peak_bytes)
        fitting, too_large = self._plans({buffers: [plain] for buffers in self._networks}, self.unplanned_ms)
        simplest = _simplest(fitting) if fitting else None
        if simplest is None or simplest.latency_ms >= self.unplanned_ms:
            simplest = self.without_stages()
        if simplest.latency_ms <= sum(self._compute_ms[1]) / _WORTH:
            return simplest
        ways = {buffers: self._ways(buffers, coarse=not fitting) for buffers in self._networks}
        others, larger = self._plans(ways, _WORTH * simplest.latency_ms)
        if not fitting and not others:  # counting page faults takes long, so only where nothing else is left
            left = sorted([*too_large, *larger], key=lambda one: one.missing_bytes(self._epc_bytes))
            paged = [self._evaluated(one) for one in left[:_PAGING_CANDIDATES]]
            others = [one for one in paged if one.latency_ms < _PAGING_WORTH * self.unplanned_ms]
        best = min([simplest, *others], key=lambda plan: plan.latency_ms)
        return best if best.latency_ms < _WORTH * simplest.latency_ms else simplest

    def _plans(self, ways: Mapping[int, Sequence[Way]], least_ms: float) -> tuple[list[Planned], list[Candidate]]:
        """Plans of the given ways, by the number of buffers, that fit into the EPC, and others that do not.

        Those that take no less than ``least_ms``, or than one before them, are left out.
        """
        fitting: list[Planned] = []
        too_large: list[Candidate] = []
        for buffers, some in ways.items():
            shares = _SHARES if buffers == 1 else _SHARES[::2]
            sizes = {max(_LEAST_BUFFER_BYTES, self._epc_bytes // (share * buffers)) for share in shares}
            for way in some:
                for buffer_bytes in sorted(sizes, reverse=True):
                    found = self._with_buffers(way, buffers, buffer_bytes, least_ms)
                    if found is not None and found.missing_bytes(self._epc_bytes) <= 0:
                        fitting.append(self._evaluated(found))
                        least_ms = min(least_ms, fitting[-1].latency_ms)
                    elif found is not None:
                        too_large.append(found)
        return fitting, too_large

    def without_stages(self) -> Planned:
        """The network as it is."""
        network = self._networks[1]
        count = len(network.optimized.operators)
        weight_bytes = sum(unit.weight_bytes for unit in self._units(Way(self.graph), 1, 1 << 62))
        whole = PlannedStage(0, count - 1, None, 0, streamed=False, weight_bytes=weight_bytes)
        planned = self.evaluate([whole], 1)
        return Planned(
            way=planned.way,
            stages=planned.stages,
            buffers=1,
            layout=planned.layout,
            latency_ms=self.unplanned_ms,
            interval_ms=self.unplanned_interval_ms,
            native_ms=planned.native_ms,
            unplanned_ms=self.unplanned_ms,
            unplanned_interval_ms=self.unplanned_interval_ms,
            by_stage=planned.by_stage,
            costs=self._costs,
        )

    def _ways(self, buffers: int, *, coarse: bool) -> list[Way]:
        threads, compute_ms = self._networks[buffers].threads, self._compute_ms[buffers]
        if threads not in self._known_ways:
            self._known_ways[threads] = other_ways(
                self.graph,
                compute_ms,
                self._epc_bytes,
                self._costs.stage_ms,
                threads,
                self._shared.strips,
                coarse=coarse,
            )
        return self._known_ways[threads]

    def _units(self, way: Way, buffers: int, buffer_bytes: int) -> list[Unit]:
        compute_ms = way.in_order(self._compute_ms[buffers])
        divided = {
            one.first: (one, division_ms(one, compute_ms[one.first :][: len(one.operators)], self._costs.stage_ms))
            for one in way.divisions
        }
        return units(way.graph, compute_ms, buffer_bytes, divided, self._sizes)

    def _with_buffers(self, way: Way, buffers: int, buffer_bytes: int, least_ms: float) -> Candidate | None:
        """The plan with buffers of at most this size, with as many weights in the enclave as there is room for.

        None where there is none, or where it takes no less than another one that is known.
        """
        parts = self._units(way, buffers, buffer_bytes)
        return self._fitted(way, parts, buffers, buffer_bytes, way.activation_bytes, least_ms)

    def _laid_out(self, way: Way, stages: Sequence[PlannedStage], buffers: int) -> Layout:
        threads = self._networks[buffers].threads
        key = (id(way.graph), threads)  # what is kept holds the graph, so its id stays its own
        if key not in self._memories:
            self._memories[key] = StageMemory(way.graph, threads)
        return lay_out(way.graph, stages, buffers, threads, self._memories[key])

    def _fitted(
        self, way: Way, parts: Sequence[Unit], buffers: int, buffer_bytes: int, peak_bytes: int, least_ms: float
    ) -> Candidate | None:
        """Stages of given units; what stays is made less until all fits, in some rounds at most.

        None where there are none, or where they take no less than ``least_ms``.
        """
        groups = grouped(parts, buffer_bytes)
        costs = StageCosts(self._opening[buffers], int8=self._int8, hidden=buffers > 1)
        room = max(1, self._epc_bytes - buffers * buffer_bytes - peak_bytes)
        least_room = least_room_bytes(parts)
        found = None
        for _ in range(_ROUNDS):
            if at_least_ms(parts, buffer_bytes, room, costs) >= least_ms:
                return None
            cuts = cut(groups, buffer_bytes, room, costs)
            if cuts is None and room < least_room:
                room = least_room  # what must stay does not fit beside the rest: pages are loaded
                cuts = cut(groups, buffer_bytes, room, costs)
            if cuts is None:
                break
            stages = tuple(
                stage_of(
                    way.graph,
                    list(chain.from_iterable(groups[one.first : one.end])),
                    streamed=one.streamed,
                    int8=one.streamed and self._int8,
                )
                for one in cuts
            )
            if timeline(*self._parts_ms(way, stages, buffers), buffers)[-1].computing.end_ms >= least_ms:
                return None
            found = Candidate(way, stages, buffers, self._laid_out(way, stages, buffers))
            missing = found.missing_bytes(self._epc_bytes)
            if missing <= 0 or room in (1, least_room):
                break
            room = max(1, room - missing)
        return found

    # What a plan takes.

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


def _simplest(plans: Sequence[Planned]) -> Planned:
    """The plan with the fewest stages of those that take next to nothing more than the fastest."""
    least_ms = min(plan.latency_ms for plan in plans)
    near = [plan for plan in plans if _WORTH * plan.latency_ms <= least_ms]
    return min(near, key=lambda plan: (len(plan.stages), plan.latency_ms))


def stage_of(graph: OptimizedGraph, parts: Sequence[Unit], *, streamed: bool, int8: bool = False) -> PlannedStage:
    """The stage that some units make.

    Args:
        graph: what the runtime executes, in the order of the units.
        parts: in order.
        streamed: whether their weights are opened before use.
        int8: whether they are stored as int8.
    """
    first, last = parts[0], parts[-1]
    of_channels = 0
    if first.channels is not None:
        of_channels = channels_of(graph.operators[first.operator], graph)
    return PlannedStage(
        first=first.operator,
        last=last.last,
        channels=first.channels,
        of_channels=of_channels,
        streamed=streamed,
        weight_bytes=sum(unit.weight_bytes for unit in parts),
        division=first.division,
        int8=int8,
    )
