"""The page-replacement model with three measured constants; operators run at the rates of the reference kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sectum.enclave.runners.reference_kernel import PRODUCTS, SIZE, SUM_ELEMENTS, SUMS
from sectum.lab.dataset.dataset import is_over_committed
from sectum.lab.learners.learner import LatencyCase, LatencyEstimate
from sectum.lab.learners.measured import KnownNetwork, MeasuredNetwork
from sectum.lab.learners.regression import factor, proportional
from sectum.units import PAGE_BYTES

Floats = NDArray[np.float64]

_PRODUCT_FLOPS = PRODUCTS * 2 * SIZE**3
_SUM_BYTES = SUMS * SUM_ELEMENTS * 4


class ThreeConstants:
    """Native time from the rates of the reference kernels, faults from the page model, a measured cost for each.

    An operator takes as long as its operations at the rate of the matrix products, or its bytes at the rate of the
    sums, whichever is longer. Three constants are measured on the networks given: how much longer whole networks
    really take, and what a swapped page and one mapped again cost.
    """

    name = "three-constants"

    def fit(self, networks: Sequence[MeasuredNetwork]) -> _FittedConstants:
        """Measure the constants."""
        native = np.array([network.native.latency_ms for network in networks])
        rates = np.array([rate_ms(network) for network in networks])
        return _FittedConstants(factor(rates, native), page_costs(networks))


@dataclass(frozen=True)
class _FittedConstants:
    constant: float
    costs: Floats

    def predict(self, cases: Sequence[LatencyCase]) -> list[LatencyEstimate]:
        return [self._estimate(case) for case in cases]

    def _estimate(self, case: LatencyCase) -> LatencyEstimate:
        native_ms = self.constant * rate_ms(case.network)
        if case.epc_pages is None:
            return LatencyEstimate(native_ms)
        paging_ms = float(faults(case.network, case.epc_pages) @ self.costs) * case.network.unit_ms
        return LatencyEstimate(native_ms + paging_ms, over_commitment=float(pages(case)))


def rate_ms(network: KnownNetwork) -> float:
    """Native latency at the rates at which the reference kernels compute and read, in milliseconds."""
    flops, n_bytes = np.array(
        [(c.flops, c.input_bytes + c.weight_bytes + c.output_bytes) for c in network.features.costs], dtype=np.float64
    ).T
    computing = flops * (network.unit_ms / _PRODUCT_FLOPS)
    return float(np.maximum(computing, n_bytes * (network.references.sums_ms / _SUM_BYTES)).sum())


def faults(network: KnownNetwork, epc_pages: int | None) -> Floats:
    """Modelled pages of one inference: half of those loaded and evicted, and those mapped again; shape ``(2,)``."""
    counts = network.paging(epc_pages)
    return np.array([(counts.loads + counts.evictions) / 2, counts.minor_faults])


def page_costs(networks: Sequence[MeasuredNetwork]) -> Floats:
    """Cost of a swapped page and of one mapped again, normalized, by measured faults; shape ``(2,)``.

    What an over-committed run takes beyond its network's native latency is divided among its measured faults, by
    least squares of errors relative to the run.
    """
    lines = [
        ((run.loads + run.evictions) / 2, run.minor_faults, run.latency_ms - network.native.latency_ms,
         run.latency_ms, network.unit_ms)
        for network in networks
        for run in network.runs
        if run.over_committed and run.latency_ms > network.native.latency_ms
    ]  # fmt: skip
    if not lines:
        return np.zeros(2)
    swaps, minor, beyond_ms, whole_ms, unit_ms = np.array(lines, dtype=np.float64).T
    # Rows whose native part is most of the run say little of pages: the error counts relative to the whole.
    weight = beyond_ms / whole_ms
    columns = np.column_stack([swaps, minor]) * weight[:, None]
    return proportional(columns, beyond_ms / unit_ms * weight)


def pages(case: LatencyCase) -> bool:
    """Whether the page model says that the case is over-committed, by the dataset's definition."""
    working_set_bytes = case.network.trace.pages * PAGE_BYTES
    return is_over_committed(case.network.paging(case.epc_pages).loads, working_set_bytes)
