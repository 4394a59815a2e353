"""The best way to run a network in an enclave that is too small for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

from sectum.enclave.profile import Profile
from sectum.ort.optimized import OptimizedGraph
from sectum.plan.cuts import StageCosts, at_least_ms, cut, grouped, least_room_bytes
from sectum.plan.divisions import division_ms
from sectum.plan.evaluation import Evaluator, Shared
from sectum.plan.opening import OpeningCosts
from sectum.plan.planned import Candidate, Planned
from sectum.plan.stages import PlannedStage
from sectum.plan.timeline import timeline
from sectum.plan.units import Unit, WeightSizes, channels_of, units
from sectum.plan.ways import Way, other_ways
from sectum.predict.predictor import Predictor
from sectum.predict.prepared import Prepared

_SHARES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
"""Sizes of buffers that are tried: the EPC over these."""
_LEAST_BUFFER_BYTES = 256 << 10
_ROUNDS = 5
_PAGING_CANDIDATES = 3
_WORTH = 0.99
"""Another order, strips or more stages have to bring the latency to this share: predictions are not exact."""
_PAGING_WORTH = 0.9
"""A plan that pages has to bring the latency to this share: which of its pages are loaded is predicted less exactly."""


class Planner(Evaluator):
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
        super().__init__(predictor, prepared, profile, costs, fewer_threads, shared)
        self._int8 = int8
        self._sizes = WeightSizes(prepared.optimized)
        self._known_ways: dict[int, list[Way]] = {}

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
                    if found is None or found.as_it_is:  # what that takes is known, and is no plan
                        continue
                    if found.missing_bytes(self._epc_bytes) <= 0:
                        fitting.append(self._evaluated(found))
                        least_ms = min(least_ms, fitting[-1].latency_ms)
                    else:
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
