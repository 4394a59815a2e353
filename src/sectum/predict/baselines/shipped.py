"""What is shipped, trained anew: operator times learned, page faults modelled, the cost of a page measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from sectum.predict.baselines.native import NativeModel, Shared, fit, reference_ms
from sectum.predict.baselines.page_model import pages
from sectum.predict.evaluation.learner import Case, Estimate, known
from sectum.predict.evaluation.metrics import NOMINAL_COVERAGE
from sectum.predict.evaluation.splits import fold_numbers
from sectum.predict.measured import MeasuredNetwork, MeasuredRun
from sectum.predict.paging_learning import PageCostModel, learn_page_costs

Width = tuple[float, float]

_SIGMAS = np.geomspace(0.001, 0.2, 60)
_CALIBRATING = 800
"""Networks at most from which the intervals' widths are taken."""
_FEWEST_ERRORS = 20


class OperatorsAndPages:
    """Sum of operator times, and modelled faults times their measured cost.

    Intervals are quantiles of the logarithmic errors that the same method makes on relatives-free halves of the
    networks given, natively, for those that fit, and for those that page.

    Args:
        name: of the learner.
        shared: with the other learners of a fold.
    """

    def __init__(self, name: str, shared: Shared) -> None:
        self.name = name
        self._shared = shared

    def fit(self, networks: Sequence[MeasuredNetwork]) -> _Fitted:
        """Learn operator times, measure the cost of pages, and find how far off both usually are."""
        sigma = boundary_sigma(networks)
        return _Fitted(self._shared.native(networks), _page_costs(networks), sigma, _widths(networks, sigma))


@dataclass(frozen=True)
class _Fitted:
    native: NativeModel
    costs: PageCostModel | None
    sigma: float
    widths: dict[str, Width]

    def predict(self, cases: Sequence[Case]) -> list[Estimate]:
        native = self.native.references([case.network for case in cases])
        return [self._estimate(case, float(time)) for case, time in zip(cases, native, strict=True)]

    def _estimate(self, case: Case, native: float) -> Estimate:
        latency_ms = native * reference_ms(case.network.references)
        if case.epc_pages is None:
            return Estimate(latency_ms, self._interval(latency_ms, "native"))
        if self.costs is not None:
            counts = case.network.paging(case.epc_pages)
            latency_ms += self.costs.references(case.network.features, counts) * case.network.references.sums_ms
        regime = "pages" if pages(case) else "fits"
        probability = over_commitment(case.network.trace.pages, case.epc_pages, self.sigma)
        return Estimate(latency_ms, self._interval(latency_ms, regime), probability)

    def _interval(self, latency_ms: float, regime: str) -> Width | None:
        width = self.widths.get(regime)
        return None if width is None else (latency_ms * width[0], latency_ms * width[1])


def _page_costs(networks: Sequence[MeasuredNetwork]) -> PageCostModel | None:
    """What pages cost; None where no network pages."""
    paging = any(run.over_committed for network in networks for run in network.runs)
    return learn_page_costs(networks) if paging else None


def over_commitment(working_set_pages: int, epc_pages: int, sigma: float) -> float:
    """Probability that the real working set does not fit, where the modelled one errs by ``sigma`` of its logarithm."""
    return NormalDist().cdf(math.log(max(1, working_set_pages) / epc_pages) / sigma)


def boundary_sigma(networks: Sequence[MeasuredNetwork]) -> float:
    """Standard deviation of log(real / modelled working set) that makes the measured verdicts likeliest."""
    lines = [
        (math.log(max(1, network.trace.pages) / run.epc_pages), run.over_committed)
        for network in networks
        for run in network.runs
        if run.epc_pages
    ]
    if not lines:
        return float(_SIGMAS[0])
    ratio, over = np.array(lines, dtype=np.float64).T
    side = np.where(over > 0, ratio, -ratio)
    normal = NormalDist()

    def unlikely(sigma: float) -> float:
        # No verdict is certain: one row that contradicts the model must not decide alone.
        return -sum(math.log(max(normal.cdf(value / sigma), 1e-3)) for value in side.tolist())

    return float(min(_SIGMAS.tolist(), key=unlikely))


def _widths(networks: Sequence[MeasuredNetwork], sigma: float) -> dict[str, Width]:
    """For each regime, the factors around a prediction between which the measured latency lies nine times in ten."""
    drawn = np.random.default_rng(0).permutation(len(networks))[:_CALIBRATING]
    sample = [networks[index] for index in sorted(drawn.tolist())]
    halves = fold_numbers(sample, folds=2)
    errors: dict[str, list[float]] = {"native": [], "fits": [], "pages": []}
    for half in (0, 1):
        learned = [network for network, number in zip(sample, halves.tolist(), strict=True) if number == 1 - half]
        others = [network for network, number in zip(sample, halves.tolist(), strict=True) if number == half]
        if not learned or not others:
            return {}
        fitted = _Fitted(fit(learned), _page_costs(learned), sigma, {})
        cases, runs = _cases(others)
        for case, run, estimate in zip(cases, runs, fitted.predict(cases), strict=True):
            regime = "native" if case.epc_pages is None else "pages" if pages(case) else "fits"
            errors[regime].append(math.log(run.latency_ms / estimate.latency_ms))
    tail = (1 - NOMINAL_COVERAGE) / 2
    return {
        regime: (float(np.exp(np.quantile(found, tail))), float(np.exp(np.quantile(found, 1 - tail))))
        for regime, found in errors.items()
        if len(found) >= _FEWEST_ERRORS
    }


def _cases(networks: Sequence[MeasuredNetwork]) -> tuple[list[Case], list[MeasuredRun]]:
    cases, runs = [], []
    for network in networks:
        view = known(network)
        for run in (network.native, *network.runs):
            cases.append(Case(view, run.epc_pages))
            runs.append(run)
    return cases, runs
