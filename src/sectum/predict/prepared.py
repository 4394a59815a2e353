"""What of a prediction does not depend on the size of the enclave."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sectum.enclave.profile import Profile, streamed_bytes
from sectum.graph.costs import Coverage, coverage
from sectum.graph.ir import Graph
from sectum.ort.page_trace import PageTrace
from sectum.paging.replacement import PagingCounts, all_fit, steady_state
from sectum.predict.features import Described, OperatorFeatures
from sectum.predict.operator_model import OperatorModel

if TYPE_CHECKING:
    from sectum.paging.compiled_replacement import CompiledReplacement

SOFTEPC = "softepc"


@dataclass(frozen=True, slots=True)
class LaidOut:
    """A network before its operators' times are known.

    Attributes:
        source: the graph as it was read.
        runtime: what the runtime executes.
        trace: the pages that one inference touches.
        described: its operators, one by one.
        threads: compute threads.
    """

    source: Graph
    runtime: Graph
    trace: PageTrace
    described: Described
    threads: int


@dataclass(frozen=True)
class Prepared:
    """What does not depend on the enclave, so that a sweep over EPC sizes computes it once.

    Attributes:
        source: the graph as it was read.
        runtime: what the runtime executes.
        features: its operators as numbers.
        trace: the pages that one inference touches.
        native_ms: time of each operator outside an enclave, shape ``(operators,)``.
        native_source: ``"predicted"`` or ``"given"``.
        operators: the models that it comes from.
        threads: compute threads.
    """

    source: Graph
    runtime: Graph
    features: OperatorFeatures
    trace: PageTrace
    native_ms: NDArray[np.float64]
    native_source: str
    operators: OperatorModel
    threads: int

    @cached_property
    def coverage(self) -> Coverage:
        """Which of the source's operators have a cost of their own."""
        return coverage(self.source)

    def counts(
        self, profile: Profile, epc_pages: int | None, compiled: CompiledReplacement | None = None
    ) -> PagingCounts:
        """Page faults of a steady-state inference where so many pages fit; `compiled` as for `steady_state`."""
        touches = self.trace.touches_under(epc_pages)
        if touches is self.trace.touches and (epc_pages is None or self.trace.pages <= epc_pages):
            return all_fit(self.trace.pages, len(self.runtime.operators))
        return steady_state(
            touches,
            epc_pages,
            profile.policy,
            operators=len(self.runtime.operators),
            compiled=compiled,
        )

    def page_weights(
        self, profile: Profile, counts: PagingCounts, correction: float | None = None
    ) -> NDArray[np.float64]:
        """Cost of a page that each operator touches, over the mean, shape ``(operators,)``.

        Args:
            profile: the enclave.
            counts: page faults in it.
            correction: of all costs of pages there, where it is known; see `OperatorModel.page_correction`.
        """
        if profile.name != SOFTEPC:  # of hardware it is not known on what the cost of a page depends
            return np.ones(len(self.features.groups))
        if correction is None:
            correction = self.operators.page_correction(self.features, counts, profile.epc_pages)
        return correction * self.operators.page_weights(self.features)

    def by_operator_ms(
        self, profile: Profile, counts: PagingCounts, weights: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Time of each operator in the enclave: compute, slower memory, paging; each of shape ``(operators,)``."""
        streamed = np.array([streamed_bytes(cost.weight_bytes, cost.flops) for cost in self.features.costs])
        compute_ms, memory_ms, paging_ms = profile.by_operator_ms(self.native_ms, streamed, counts, self.threads)
        return compute_ms, memory_ms, paging_ms * weights

    def paging_ms(self, profile: Profile, counts: PagingCounts) -> float:
        """Time of all page faults of an inference."""
        weights = self.page_weights(profile, counts)
        weighted = replace(
            counts,
            loads=float(weights @ counts.loads_by_operator),
            evictions=float(weights @ counts.evictions_by_operator),
            minor_faults=float(weights @ counts.minor_faults_by_operator),
        )
        return profile.paging_ms(weighted, self.threads)
