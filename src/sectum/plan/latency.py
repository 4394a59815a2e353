"""How long one inference takes where a network runs in one way: a protocol, and three ways."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Protocol

from sectum.enclave.profile import Profile
from sectum.enclave.runners.relay import Pace
from sectum.graph.ir import Graph
from sectum.plan.chain import ChainPlanner
from sectum.plan.links import DEFAULT_LINK, LinkCosts, link_costs_for
from sectum.plan.opening import OpeningCosts, costs_for
from sectum.plan.planned import Planned
from sectum.plan.planned_chain import PlannedChain
from sectum.plan.planning import Planner
from sectum.predict.prediction import Interval
from sectum.predict.predictor import Predictor
from sectum.predict.prepared import Prepared
from sectum.units import PAGE_BYTES


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one steady-state inference is predicted to take.

    Attributes:
        latency_ms: in the enclave.
        interval_ms: its 90 % interval.
        native_ms: outside an enclave, with all threads computing.
        working_set_bytes: protected memory that it touches; of several enclaves, of that with the largest.
        plan: that the network follows; None where it runs as it is.
    """

    latency_ms: float
    interval_ms: Interval
    native_ms: float
    working_set_bytes: int
    plan: Planned | PlannedChain | None = None


class LatencyModel(Protocol):
    """Predicts networks that run in one way: `UnplannedLatency`, `PlannedLatency` and `ChainedLatency` do."""

    def latency(self, graph: Graph, profile: Profile, *, threads: int = 1) -> Estimate:
        """Predict one steady-state inference.

        Args:
            graph: the network as it was read.
            profile: the enclave.
            threads: all of them; with several enclaves, those of each.

        Raises:
            UsageError: the number of threads is out of its range, or the costs of the enclave are not known.
        """
        ...


class UnplannedLatency:
    """A network as it is: the pager loads what is missing.

    Networks are prepared once for each number of threads, and kept.

    Args:
        predictor: predicts their operators.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._prepared: dict[tuple[int, int], Prepared] = {}

    def prepared(self, graph: Graph, threads: int) -> Prepared:
        """The part of a prediction that does not depend on the enclave."""
        key = (id(graph), threads)  # what is prepared holds the graph, so its id stays its own
        if key not in self._prepared:
            self._prepared[key] = self.predictor.prepare(graph, threads=threads)
        return self._prepared[key]

    def latency(self, graph: Graph, profile: Profile, *, threads: int = 1) -> Estimate:
        """Predict one inference; see `LatencyModel`."""
        prepared = self.prepared(graph, threads)
        latency_ms, interval_ms = self.predictor.latency_and_interval(prepared, profile)
        return Estimate(latency_ms, interval_ms, float(prepared.native_ms.sum()), prepared.trace.pages * PAGE_BYTES)


class PlannedLatency:
    """A network by its best plan, or as it is where no plan is faster.

    Args:
        predictor: predicts its operators.
        costs: of opening and of stages; None for those that go with the predictor.
    """

    def __init__(self, predictor: Predictor, costs: OpeningCosts | None = None) -> None:
        self.unplanned = UnplannedLatency(predictor)
        self._costs = costs

    @property
    def costs(self) -> OpeningCosts:
        """Of opening and of stages."""
        if self._costs is None:
            self._costs = costs_for(self.unplanned.predictor)
        return self._costs

    def latency(self, graph: Graph, profile: Profile, *, threads: int = 1) -> Estimate:
        """Predict one inference; see `LatencyModel`."""
        prepared = self.unplanned.prepared(graph, threads)
        if profile.epc_bytes is None or prepared.trace.pages * PAGE_BYTES <= profile.epc_bytes:
            return self.unplanned.latency(graph, profile, threads=threads)
        found = self.planner(graph, profile, threads).best()
        if found.as_it_is:
            return self.unplanned.latency(graph, profile, threads=threads)
        return Estimate(
            found.latency_ms, found.interval_ms, found.native_ms, found.layout.working_set_bytes, plan=found
        )

    def planner(self, graph: Graph, profile: Profile, threads: int = 1) -> Planner:
        """What plans a network for an enclave.

        Raises:
            UsageError: the enclave has no EPC.
        """
        prepared = self.unplanned.prepared
        fewer = prepared(graph, threads - 1) if threads > 1 else None
        return Planner(self.unplanned.predictor, prepared(graph, threads), profile, self.costs, fewer)


class ChainedLatency:
    """A network shared among several enclaves, by the plan with the least time of one request.

    Args:
        planned: prepares networks, and has the costs of opening and of stages.
        enclaves: most of them.
        link: between two enclaves.
        link_costs: of sealing and opening what crosses; None for those that go with the predictor.
    """

    def __init__(
        self,
        planned: PlannedLatency,
        enclaves: int,
        link: Pace = DEFAULT_LINK,
        link_costs: LinkCosts | None = None,
    ) -> None:
        self.planned, self._enclaves, self._link = planned, enclaves, link
        self._link_costs = link_costs
        self._planners: dict[tuple[int, Profile, int], ChainPlanner] = {}

    def at_most(self, enclaves: int) -> ChainedLatency:
        """The same with another number of enclaves: what was found of parts of networks is kept."""
        other = copy(self)
        other._enclaves = enclaves
        return other

    def latency(self, graph: Graph, profile: Profile, *, threads: int = 1) -> Estimate:
        """Predict one request; see `LatencyModel`.

        Raises:
            UsageError: the enclave has no EPC, or there are too many enclaves.
        """
        key = (id(graph), profile, threads)  # what is prepared holds the graph, so its id stays its own
        if key not in self._planners:
            prepared, predictor = self.planned.unplanned.prepared, self.planned.unplanned.predictor
            self._planners[key] = ChainPlanner(
                predictor,
                prepared(graph, threads),
                profile,
                self.planned.costs,
                prepared(graph, threads - 1) if threads > 1 else None,
                link=self._link,
                link_costs=self._link_costs or link_costs_for(predictor),
            )
        found = self._planners[key].best_chain(self._enclaves)
        largest = max(one.layout.working_set_bytes for one in found.enclaves)
        return Estimate(found.latency_ms, found.interval_ms, found.native_ms, largest, plan=found)
