"""What of a prediction does not depend on the enclave."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sectum.enclave.profile import Profile
from sectum.graph.ir import Graph
from sectum.ort.costs import Coverage, coverage
from sectum.ort.optimized import OptimizedGraph
from sectum.ort.page_trace import PageTrace
from sectum.paging.replacement import PagingCounts, all_fit, steady_state
from sectum.predict.features import DescribedGraph, OperatorFeatures
from sectum.predict.support import INSIDE, NEAR, NEAR_FACTOR, OUTSIDE, Place, Support
from sectum.units import PAGE_BYTES

if TYPE_CHECKING:
    from sectum.paging.compiled_replacement import CompiledReplacement


@dataclass(frozen=True, slots=True)
class TracedNetwork:
    """A network whose operator times are not known yet.

    Attributes:
        source: the graph as it was read.
        optimized: what the runtime executes.
        trace: the pages that one inference touches.
        described: its operators, one by one.
        threads: compute threads.
    """

    source: Graph
    optimized: OptimizedGraph
    trace: PageTrace
    described: DescribedGraph
    threads: int


@dataclass(frozen=True)
class Prepared:
    """A network whose native operator times are known: a sweep over EPC sizes computes it once.

    Attributes:
        source: the graph as it was read.
        optimized: what the runtime executes.
        trace: the pages that one inference touches.
        features: its operators as numbers.
        native_ms: native time of each operator, shape ``(operators,)``.
        native_source: ``"predicted"`` or ``"given"``.
        threads: compute threads.
        bounds_ms: least and most native time of each operator, whatever it is, shape ``(2, operators)``.
        support: the operators that their native times were learned from.
    """

    source: Graph
    optimized: OptimizedGraph
    trace: PageTrace
    features: OperatorFeatures
    native_ms: NDArray[np.float64]
    native_source: str
    threads: int
    bounds_ms: NDArray[np.float64]
    support: Support

    @cached_property
    def coverage(self) -> Coverage:
        """Which of the source's operators have a cost model."""
        return coverage(self.source)

    @property
    def crossing_bytes(self) -> int:
        """Bytes of the inputs and outputs, which cross the enclave's boundary."""
        return sum(self.source.tensors[name].n_bytes for name in (*self.source.inputs, *self.source.outputs))

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Where each operator lies: like those that were measured, or not."""
        return self.support.places(self.features)

    @cached_property
    def not_inside(self) -> NDArray[np.bool_]:
        """Which operators are not like those that were measured, shape ``(operators,)``."""
        return np.array([place.support != INSIDE for place in self.places], dtype=bool)

    @cached_property
    def widest_ms(self) -> NDArray[np.float64]:
        """Least and most native time of each operator that is not inside the support, shape ``(2, operators)``."""
        near = np.array([place.support == NEAR for place in self.places], dtype=bool)
        low, high = self.bounds_ms
        low = np.where(near, np.maximum(low, self.native_ms / NEAR_FACTOR), low)
        high = np.where(near, np.minimum(high, self.native_ms * NEAR_FACTOR), high)
        return np.stack([np.minimum(low, self.native_ms), np.maximum(high, self.native_ms)])

    @cached_property
    def uncertain_pages(self) -> int:
        """Pages of weights and outputs of the operators outside: they may be touched twice, or not at all."""
        costs = zip(self.features.costs, self.places, strict=True)
        n_bytes = sum(cost.weight_bytes + cost.output_bytes for cost, place in costs if place.support == OUTSIDE)
        return min(self.trace.pages, -(-n_bytes // PAGE_BYTES))

    def counts(
        self, profile: Profile, epc_pages: int | None, compiled: CompiledReplacement | None = None
    ) -> PagingCounts:
        """Page faults of a steady-state inference where so many pages fit; `compiled` as for `steady_state`."""
        touches = self.trace.touches_under(epc_pages)
        operators = len(self.optimized.operators)
        if touches is self.trace.touches and (epc_pages is None or self.trace.pages <= epc_pages):
            return all_fit(self.trace.pages, operators)
        return steady_state(touches, epc_pages, profile.policy, operators=operators, compiled=compiled)
