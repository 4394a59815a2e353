"""Learns what a page costs, by the kind of operator that touches it.

A page that a convolution brings in costs a third more than one that a matrix product streams through: convolutions jump
between pages, products walk along them. How much the kinds differ is learned here, and by trees what else decides
(`sectum.predict.paging_features`); what a page costs on a machine is measured there (`sectum calibrate`). Costs go with
the page faults that are modelled, since those are what a prediction has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.errors import UsageError
from sectum.lab.learners.measured import MeasuredNetwork, MeasuredRun
from sectum.ort.operators import KINDS
from sectum.paging.replacement import PagingCounts
from sectum.predict.features import OperatorFeatures
from sectum.predict.paging_features import paging_features

_ROUNDS, _OUTLIER = 3, 0.25
_FEWEST_ROWS = 100
"""For trees."""
TREES = 250
PARAMETERS = {
    "objective": "huber", "alpha": 0.08, "num_leaves": 12, "learning_rate": 0.04, "min_data_in_leaf": 12,
    "bagging_fraction": 0.7, "bagging_freq": 1, "feature_fraction": 0.4, "seed": 0, "deterministic": True,
    "force_row_wise": True, "num_threads": 1, "verbose": -1,
}  # fmt: skip
_LEAST_SHARE = 0.05
LARGEST_CORRECTION = 1.0
_PRIOR_ROWS = 0.3  # as if so many rows had shown that a kind costs as much as the mean


@dataclass(frozen=True)
class PageCostModel:
    """Cost of pages, over the time of the reduction kernel, which a machine slows as it slows paging.

    Attributes:
        swap: of a page evicted and one loaded, the mean over all kinds of operators.
        minor_fault: of a page mapped again.
        factors: by group of operators, over the mean.
        correction: regressor of the logarithm of what that is off by, on paging features; None with too few rows.
        rows: that it was learned from.
    """

    swap: float
    minor_fault: float
    factors: Mapping[str, float]
    correction: Any
    rows: int

    def normalized_time(self, features: OperatorFeatures, counts: PagingCounts, epc_pages: int) -> float:
        """Time of the page faults of an inference, over that of the reduction kernel."""
        base = self._by_kind(features, counts)
        if self.correction is None or not base:
            return base
        (log,) = self.correction.predict(paging_features(features, counts, epc_pages), num_threads=1)
        return float(base * np.exp(log))

    def _by_kind(self, features: OperatorFeatures, counts: PagingCounts) -> float:
        weights = np.array([self.factors.get(group, 1.0) for group in features.kinds])
        swapped = weights @ (counts.loads_by_operator + counts.evictions_by_operator) / 2
        return float(self.swap * swapped + self.minor_fault * counts.minor_faults)


def learn_page_costs(networks: Sequence[MeasuredNetwork]) -> PageCostModel:
    """Regress the time beyond the native one on the pages of each kind, by least squares of the relative error.

    Raises:
        UsageError: no network pages.
    """
    cases = [
        (network, run)
        for network in networks
        for run in network.runs
        if run.over_committed and network.paging(run.epc_pages).loads
    ]
    if not cases:
        raise UsageError("no measured network pages: collect some under small EPC sizes (sectum dataset collect)")
    pages = np.array([_pages_by_group(network, run) for network, run in cases])
    native = np.array([network.native.latency_ms / network.references.sums_ms for network, _ in cases])
    latency = np.array([run.latency_ms / network.references.sums_ms for network, run in cases])
    minor = np.array([network.paging(run.epc_pages).minor_faults for network, run in cases])
    weight = 1 / latency
    for _ in range(_ROUNDS):
        costs = _solve(np.column_stack([pages, minor]), latency - native, weight)
        modelled = np.column_stack([pages, minor]) @ costs
        residual = np.log(latency / (native + modelled))
        weight = np.where(np.abs(residual) < _OUTLIER, 1 / latency, 0.0)
    off = np.maximum(latency - native, 0.1 * latency) / modelled
    mean = float(costs[:-1] @ pages.sum(axis=0) / pages.sum())
    return PageCostModel(
        swap=mean,
        minor_fault=float(costs[-1]),
        factors={group: float(cost / mean) for group, cost in zip(KINDS, costs, strict=False)},
        correction=_correction(cases, off, modelled / latency),
        rows=len(cases),
    )


def _correction(
    cases: Sequence[tuple[MeasuredNetwork, MeasuredRun]],
    off: NDArray[np.float64],
    share: NDArray[np.float64],
) -> Any:
    """Learn what the costs by kind are off by; rows count by the share that paging has in them."""
    if len(cases) < _FEWEST_ROWS:
        return None
    import lightgbm

    rows = np.concatenate(
        [paging_features(network.features, network.paging(run.epc_pages), run.epc_pages or 0) for network, run in cases]
    )
    target = np.clip(np.log(off), -LARGEST_CORRECTION, LARGEST_CORRECTION)
    data = lightgbm.Dataset(rows, target, weight=np.clip(share, _LEAST_SHARE, 1), params={"verbose": -1})
    return lightgbm.train(dict(PARAMETERS), data, num_boost_round=TREES)


def _pages_by_group(network: MeasuredNetwork, run: MeasuredRun) -> NDArray[np.float64]:
    """Pages swapped in an inference, by the kind of operator that touches them, as modelled."""
    counts = network.paging(run.epc_pages)
    swapped = (np.asarray(counts.loads_by_operator) + np.asarray(counts.evictions_by_operator)) / 2
    groups = np.array(network.features.kinds)
    return np.array([swapped[groups == group].sum() for group in KINDS])


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
