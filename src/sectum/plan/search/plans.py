"""The best plans of networks that a search looks at: those of `sectum plan`, with what they share worked out once."""

from __future__ import annotations

from functools import cached_property

from sectum.enclave.profile import Profile
from sectum.paging.compiled_replacement import compiled_replacement
from sectum.plan.evaluation import Shared
from sectum.plan.opening import OpeningCosts
from sectum.plan.planned import Planned
from sectum.plan.planning import Planner
from sectum.plan.search.network import Network, as_graph
from sectum.predict.predictor import Predictor
from sectum.predict.prepared import Prepared
from sectum.zoo import Architecture, to_graph


class Plans:
    """Plans networks for one enclave.

    Args:
        predictor: predicts their operators.
        profile: the enclave, which has an EPC.
        opening: what opening sealed weights costs.
    """

    def __init__(self, predictor: Predictor, profile: Profile, opening: OpeningCosts) -> None:
        self._predictor, self._profile, self._opening = predictor, profile, opening

    @cached_property
    def _shared(self) -> Shared:
        return Shared(compiled=compiled_replacement())

    def best(self, prepared: Prepared) -> Planned | None:
        """The best plan; None where the network is as fast as it is."""
        threads = prepared.threads
        fewer = self._predictor.prepare(prepared.source, threads=threads - 1) if threads > 1 else None
        planner = Planner(self._predictor, prepared, self._profile, self._opening, fewer, self._shared)
        planned = planner.best()
        return None if planned.as_it_is else planned

    def of(self, network: Network, *, batch: int = 1, threads: int = 1) -> Planned | None:
        """The best plan of a network that was found; None where it is as fast as it is.

        Args:
            network: as `sectum.plan.search.network` describes.
            batch: images in an inference.
            threads: all of them.
        """
        graph = as_graph(network, batch)
        graph = to_graph(graph, batch) if isinstance(graph, Architecture) else graph
        return self.best(self._predictor.prepare(graph, threads=threads))
