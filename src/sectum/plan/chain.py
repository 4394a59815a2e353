"""The best way to run a network in several enclaves, each with an EPC and threads of its own."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from sectum.enclave.profile import Profile
from sectum.enclave.runners.relay import Pace
from sectum.errors import UsageError
from sectum.ort.operators import describe
from sectum.ort.optimized import OptimizedGraph
from sectum.plan.assignment import LATENCY, ChainCosts, assign, figures
from sectum.plan.chain_estimate import BUFFER_SHARES, WAKING_MS, EnclaveCosts, estimate
from sectum.plan.chain_shape import MOST_ENCLAVES
from sectum.plan.evaluation import BUFFERS_AHEAD
from sectum.plan.layout import Layout
from sectum.plan.links import DEFAULT_LINK, LinkCosts, crossing_bytes
from sectum.plan.opening import OpeningCosts
from sectum.plan.planned import Candidate, Planned
from sectum.plan.planned_chain import PlannedChain, PlannedEnclave
from sectum.plan.planning import Planner, stage_of
from sectum.plan.segments import lay_out_segment, segment_of
from sectum.plan.stages import PlannedStage
from sectum.plan.units import Unit, channels_of
from sectum.plan.ways import Way
from sectum.predict.prediction import Interval
from sectum.predict.predictor import Predictor
from sectum.predict.prepared import Prepared

_LARGEST_PART, _LEAST_PART_BYTES = 8, 256 << 10
"""An operator whose weights exceed the EPC over this is divided, so that enclaves can share it."""
_MOST_PARTS = 320
_SIZES_TRIED = 2
_UNFIT_MS = 1e6
"""So much more a part seems to cost that does not fit: others are taken where there are any."""
_CUTS_TRIED, _NEARLY = 8, 1.25
_LINK_UNCERTAINTY = 0.25


class ChainPlanner(Planner):
    """Plans one network for several enclaves of one kind.

    Args:
        predictor: predicts its operators.
        prepared: the network with all threads of an enclave computing.
        profile: each enclave.
        costs: of opening weights and of stages.
        fewer_threads: the network with one thread less, for enclaves in which that one opens; None with one thread.
        link: between two enclaves.
        link_costs: of sealing and opening what crosses.
        int8: whether streamed weights are stored as int8 and widened on use, which changes outputs.

    Raises:
        UsageError: the profile has no EPC.
    """

    def __init__(
        self,
        predictor: Predictor,
        prepared: Prepared,
        profile: Profile,
        costs: OpeningCosts,
        fewer_threads: Prepared | None = None,
        *,
        link: Pace = DEFAULT_LINK,
        link_costs: LinkCosts | None = None,
        int8: bool = False,
    ) -> None:
        super().__init__(predictor, prepared, profile, costs, fewer_threads, int8=int8)
        self._link, self._link_costs = link, link_costs or LinkCosts()
        self._way = Way(self.graph)
        self._parts = self._divided()
        self._crossing = self._crossing_at_points()
        scratch = [sum(describe(op).scratch(op, self.graph, prepared.threads)) for op in self.graph.operators]
        self._live_bytes = np.array(self.graph.lifetimes.live_bytes, dtype=float) + scratch
        self._segments: dict[tuple[int, int], OptimizedGraph] = {}
        self._found: dict[tuple[int, int], PlannedEnclave] = {}

    # Where the network can be cut.

    def _divided(self) -> list[list[Unit]]:
        """Groups of units between which the network can be cut."""
        parts = self._units(self._way, 1, max(_LEAST_PART_BYTES, self.epc_bytes // _LARGEST_PART))
        if len(parts) <= _MOST_PARTS:
            return [[part] for part in parts]
        most_bytes = 2 * sum(part.weight_bytes for part in parts) / _MOST_PARTS
        most_ms = 2 * sum(part.compute_ms for part in parts) / _MOST_PARTS
        groups: list[list[Unit]] = []
        n_bytes = ms = math.inf
        for part in parts:
            n_bytes, ms = n_bytes + part.weight_bytes, ms + part.compute_ms
            if n_bytes > most_bytes or ms > most_ms:
                groups.append([])
                n_bytes, ms = part.weight_bytes, part.compute_ms
            groups[-1].append(part)
        return groups

    def _crossing_at_points(self) -> NDArray[np.float64]:
        """Bytes that cross at each point; 0 at the ends."""
        graph = self.graph
        before, results = (
            crossing_bytes(graph),
            [graph.n_bytes[op.result] if op.result else 0 for op in graph.operators],
        )
        found = [0.0]
        for group in self._parts[1:]:
            unit = group[0]
            made = 0.0
            if unit.channels is not None:
                made = results[unit.operator] * unit.channels[0] / max(1, self._channels(unit.operator))
            found.append(before[unit.operator] + made)
        return np.array([*found, 0.0])

    def _channels(self, operator: int) -> int:
        return channels_of(self.graph.operators[operator], self.graph)

    @property
    def points(self) -> int:
        """How many parts the network can be cut into at most."""
        return len(self._parts)

    # Planning.

    def estimate(self) -> ChainCosts:
        """What every part costs, without laying out its memory."""
        profile = self._profile
        costs = EnclaveCosts(
            epc_bytes=self.epc_bytes,
            opening=self._costs,
            page_us=profile.load_us + profile.evict_us,
            ahead=self._opening.get(BUFFERS_AHEAD[0]),
            int8=self._int8,
            link=self._link,
            on_link=self._link_costs,
        )
        return estimate(self._parts, self._live_bytes, self._crossing, costs)

    def best_chain(self, enclaves: int, goal: str = LATENCY) -> PlannedChain:
        """The best plan found for at most so many enclaves.

        Dynamic programming cuts where an estimate of the parts' costs says. The parts that it chooses are then laid out
        and predicted in full, and it cuts again with what they really cost, until it chooses no others. The estimate is
        rarely higher than the cost; where it never is, there is no better way to cut. Equal shares are tried, too.

        Args:
            enclaves: most of them.
            goal: ``"latency"`` of one request, or ``"throughput"`` of many.

        Raises:
            UsageError: there are too many enclaves.
        """
        if not 1 <= enclaves <= MOST_ENCLAVES:
            raise UsageError(f"{enclaves} enclaves are out of range: give 1 to {MOST_ENCLAVES}")
        costs = self.estimate()
        limit = _NEARLY * figures(costs, assign(costs, enclaves, goal), goal)[0]
        equal = [one for one in self.equal_shares(enclaves).values() if figures(costs, one, goal)[0] <= limit]
        tried: list[PlannedChain] = [self.at(bounds) for bounds in equal]
        exact: set[tuple[int, int]] = set()
        for _ in range(_CUTS_TRIED):
            bounds = assign(costs, enclaves, goal)
            parts = list(pairwise([*bounds, self.points]))
            tried.append(self.at(bounds))
            if exact.issuperset(parts):
                break
            exact.update(parts)
            for part in parts:
                one = self._found[part]
                costs.part_ms[part] = one.busy_ms + (0.0 if one.fits else _UNFIT_MS)
        return min(tried, key=lambda chain: chain.key(goal))

    def equal_shares(self, enclaves: int) -> dict[str, list[int]]:
        """Points that give each enclave the same number of operators, the same weights, or the same time."""
        parts_of = Counter(part.operator for group in self._parts for part in group)
        shares: dict[str, list[float]] = {
            "operators": [sum(1 / parts_of[part.operator] for part in group) for group in self._parts],
            "weights": [sum(part.weight_bytes for part in group) for group in self._parts],
            "time": [sum(part.compute_ms for part in group) for group in self._parts],
        }
        return {name: _equal(share, enclaves) for name, share in shares.items()}

    def at(self, bounds: Sequence[int]) -> PlannedChain:
        """The plan that cuts at given points, as `assign` gives them."""
        return self.chain_of(self._part(begin, end) for begin, end in pairwise([*bounds, self.points]))

    def enclave_with(self, stages: Sequence[PlannedStage], buffers: int) -> PlannedEnclave:
        """Predict what given stages take in one enclave.

        Raises:
            UsageError: more than one buffer, and only one thread.
        """
        planned = self.evaluate(stages, buffers)
        return self._enclave(planned, self._bytes_before(stages[0]), self._bytes_after(stages[-1]))

    def chain_of(self, enclaves: Iterable[PlannedEnclave]) -> PlannedChain:
        """A plan with these enclaves."""
        return PlannedChain(
            tuple(enclaves),
            float(self._networks[1].native_ms.sum()),
            self.unplanned_ms,
            self.unplanned_interval_ms,
            self._costs,
            self._link_costs,
        )

    def _bytes_before(self, stage: PlannedStage) -> int:
        return self._bytes_at(stage.first, 0 if stage.channels is None else stage.channels[0], stage.of_channels)

    def _bytes_after(self, stage: PlannedStage) -> int:
        if stage.channels is not None and stage.channels[1] < stage.of_channels:
            return self._bytes_at(stage.first, stage.channels[1], stage.of_channels)
        return self._bytes_at(stage.last + 1, 0, 0)

    def _bytes_at(self, operator: int, channel: int, of_channels: int) -> int:
        """Bytes that cross before a channel of an operator; 0 at both ends of the network."""
        if operator + channel == 0 or operator == len(self.graph.operators):
            return 0
        made = self.graph.n_bytes[self.graph.operators[operator].result] * channel / max(1, of_channels)
        return int(crossing_bytes(self.graph)[operator] + made)

    # One enclave.

    def _laid_out(self, way: Way, stages: Sequence[PlannedStage], buffers: int) -> Layout:
        ends = (stages[0].first, stages[-1].last)
        if ends not in self._segments:
            self._segments[ends] = segment_of(way.graph, *ends)
        return lay_out_segment(way.graph, self._segments[ends], stages, buffers, self._networks[buffers].threads)

    def _part(self, begin: int, end: int) -> PlannedEnclave:
        """The best plan for the groups from one point to another."""
        if (begin, end) not in self._found:
            parts = [part for group in self._parts[begin:end] for part in group]
            received, sent = (int(self._crossing[point]) for point in (begin, end))
            self._found[begin, end] = self._enclave(self._best_of(parts), received, sent)
        return self._found[begin, end]

    def _best_of(self, parts: Sequence[Unit]) -> Planned:
        """The best stages for some units: all weights stay if they fit, else buffers of several sizes are tried."""
        stages = tuple(self._resident(parts))
        whole = Candidate(self._way, stages, 1, self._laid_out(self._way, stages, 1))
        if whole.missing_bytes(self.epc_bytes) <= 0:
            return self._evaluated(whole)
        peak = int(max(self._live_bytes[part.operator] for part in parts))
        largest = max((part.weight_bytes for part in parts if not part.must_stay), default=0)
        found = []
        for buffers in self._networks:
            sizes = [size for share in BUFFER_SHARES if (size := self.epc_bytes // share // buffers) >= largest]
            first = max(0, (len(sizes) - _SIZES_TRIED) // 2)
            for size in sizes[first : first + _SIZES_TRIED] or [largest]:
                if (candidate := self._fitted(self._way, parts, buffers, size, peak, math.inf)) is not None:
                    found.append(candidate)
        fitting = [one for one in found if one.missing_bytes(self.epc_bytes) <= 0]
        if not fitting:  # some pages are loaded: counting them takes long
            fitting = [min([*found, whole], key=lambda one: one.missing_bytes(self.epc_bytes))]
        return min((self._evaluated(one) for one in fitting), key=lambda plan: plan.latency_ms)

    def _resident(self, parts: Sequence[Unit]) -> list[PlannedStage]:
        """Stages that keep all weights: as few as there can be."""
        stages = []
        joined = [_joined(list(same), self._channels) for _, same in groupby(parts, lambda part: part.operator)]
        for whole, run in groupby([unit for units in joined for unit in units], lambda unit: unit.channels is None):
            own = list(run)
            stages += [stage_of(self.graph, one, streamed=False) for one in ([own] if whole else [[u] for u in own])]
        return stages

    def _enclave(self, planned: Planned, received: int, sent: int) -> PlannedEnclave:
        """What an enclave takes, with its links, of what its stages take."""
        graph, profile, threads = self.graph, self._profile, self._networks[planned.buffers].threads
        opening_ms = self._link_costs.open_ms(received) if received else 0.0
        sealing_ms = self._link_costs.seal_ms(sent) if sent else 0.0
        entered = 0 if received else sum(graph.n_bytes[name] for name in graph.inputs)
        left = 0 if sent else sum(graph.n_bytes[name] for name in graph.outputs)
        of_network = profile.entry_ms(self._networks[planned.buffers].crossing_bytes, threads)
        other_ms = profile.entry_ms(entered + left, threads) - of_network
        link = opening_ms + sealing_ms
        waking_ms = WAKING_MS if received or sent else 0.0
        interval = planned.interval_ms
        return PlannedEnclave(
            stages=planned.stages,
            buffers=planned.buffers,
            layout=planned.layout,
            fits=planned.layout.working_set_bytes <= self.epc_bytes,
            by_stage=planned.by_stage,
            received_bytes=received,
            sent_bytes=sent,
            opening_ms=opening_ms,
            sealing_ms=sealing_ms,
            busy_ms=planned.latency_ms + other_ms + link + waking_ms,
            interval_ms=Interval(
                interval.low + other_ms + link * (1 - _LINK_UNCERTAINTY),
                interval.high + other_ms + link * (1 + _LINK_UNCERTAINTY) + 2 * waking_ms,
            ),
            link_ms=self._link.message_ms(sent) if sent else 0.0,
            occupied_ms=self._link.transfer_ms(sent) if sent else 0.0,
        )


def _joined(parts: list[Unit], channels: Callable[[int], int]) -> list[Unit]:
    """The parts of an operator as one; as the whole operator where all of them are there."""
    first, last = parts[0], parts[-1]
    if first.channels is None or last.channels is None:
        return parts
    joined = (first.channels[0], last.channels[1])
    whole = joined == (0, channels(first.operator))
    weight_bytes, compute_ms = sum(one.weight_bytes for one in parts), sum(one.compute_ms for one in parts)
    return [Unit(first.operator, None if whole else joined, weight_bytes, compute_ms, must_stay=False)]


def _equal(share: Sequence[float], enclaves: int) -> list[int]:
    """Points at which the sum of shares is nearest to equal."""
    sums = np.concatenate([[0.0], np.cumsum(share)])
    wanted = sums[-1] * np.arange(1, enclaves) / enclaves
    nearest = [int(np.abs(sums[1:-1] - one).argmin()) + 1 for one in wanted] if len(share) > 1 else []
    return [0, *sorted(set(nearest))]
