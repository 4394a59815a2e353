"""Learns what a page costs, by the kind of operator that touches it.

A page that a convolution brings in costs a third more than one that a matrix product streams through: convolutions jump
between pages, products walk along them. How much the kinds differ is learned here; what a page costs on a machine is
measured there (`sectum calibrate`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sectum.enclave.replacement import PagingCounts
from sectum.errors import UsageError
from sectum.predict.features import GROUPS, OperatorFeatures
from sectum.predict.measured import MeasuredNetwork, MeasuredRun

_ROUNDS, _OUTLIER = 3, 0.25
_PRIOR_ROWS = 0.3  # as if so many rows had shown that a kind costs as much as the mean


@dataclass(frozen=True)
class PageCostModel:
    """Cost of pages, in units of the reference kernel of sums, which a machine slows as it slows paging.

    Attributes:
        swap: of a page evicted and one loaded, the mean over all kinds of operators.
        minor_fault: of a page mapped again.
        factors: by group of operators, over the mean.
        sigma: standard deviation of log(measured / modelled) of latencies that page, native latency and counts given.
        rows: that it was learned from.
    """

    swap: float
    minor_fault: float
    factors: Mapping[str, float]
    sigma: float
    rows: int

    def references(self, features: OperatorFeatures, counts: PagingCounts) -> float:
        """Time of the page faults of an inference.

        Args:
            features: of the network's operators.
            counts: its page faults.
        """
        weights = np.array([self.factors.get(group, 1.0) for group in features.groups])
        swapped = weights @ (counts.loads_by_operator + counts.evictions_by_operator) / 2
        return float(self.swap * swapped + self.minor_fault * counts.minor_faults)


def learn_page_costs(networks: Sequence[MeasuredNetwork]) -> PageCostModel:
    """Regress the time beyond the native one on the pages of each kind, by least squares of the relative error.

    Raises:
        UsageError: no network pages.
    """
    cases = [(network, run) for network in networks for run in network.runs if run.over_committed]
    if not cases:
        raise UsageError("no measured network pages: collect some under small sizes of EPC (sectum dataset collect)")
    pages = np.array([_pages_by_group(network, run) for network, run in cases])
    native = np.array([network.native.latency_ms / network.typical.sums_ms for network, _ in cases])
    latency = np.array([run.latency_ms / network.typical.sums_ms for network, run in cases])
    minor = np.array([run.minor_faults for _, run in cases])
    weight = 1 / latency
    for _ in range(_ROUNDS):
        costs = _solve(np.column_stack([pages, minor]), latency - native, weight)
        modelled = native + np.column_stack([pages, minor]) @ costs
        residual = np.log(latency / modelled)
        weight = np.where(np.abs(residual) < _OUTLIER, 1 / latency, 0.0)
    mean = float(costs[:-1] @ pages.sum(axis=0) / pages.sum())
    low, high = np.quantile(residual, [0.02, 0.98])
    return PageCostModel(
        swap=mean,
        minor_fault=float(costs[-1]),
        factors={group: float(cost / mean) for group, cost in zip(GROUPS, costs, strict=False)},
        sigma=float(np.sqrt(np.mean(np.square(np.clip(residual, low, high))))),
        rows=len(cases),
    )


def _pages_by_group(network: MeasuredNetwork, run: MeasuredRun) -> NDArray[np.float64]:
    """Pages that were loaded in an inference, counted; shared out among the kinds of operators as modelled."""
    modelled = np.asarray(network.paging(run.epc_pages).loads_by_operator)
    groups = np.array(network.features.groups)
    by_group = np.array([modelled[groups == group].sum() for group in GROUPS])
    if not by_group.sum():  # modelled to fit, and did not: by what each touches
        by_group = np.array([np.sum(groups == group) for group in GROUPS], dtype=np.float64)
    return np.asarray(by_group * run.loads / by_group.sum(), dtype=np.float64)


def _solve(
    columns: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weighted least squares with coefficients drawn towards the common cost of a page; none is below 0.

    The prior keeps a kind of operator that hardly pages anywhere from getting a cost out of noise.
    """
    total = columns.sum(axis=1)
    common = float(np.sum(weight**2 * total * target) / np.sum(weight**2 * total**2))
    typical = np.sqrt(np.mean(np.square(weight * total)))
    prior = np.sqrt(_PRIOR_ROWS) * typical * np.eye(columns.shape[1])
    stacked = np.vstack([columns * weight[:, None], prior])
    wanted = np.concatenate([target * weight, prior.sum(axis=1) * common])
    solution, *_ = np.linalg.lstsq(stacked, wanted, rcond=None)
    return np.asarray(np.maximum(solution, 0.0), dtype=np.float64)
