"""The shipped method as a learner: operator times learned, page faults modelled, the cost of a page measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sectum.lab.learners.learner import NOMINAL_COVERAGE, LatencyCase, LatencyEstimate
from sectum.lab.learners.lone_operators import LoneOperators
from sectum.lab.learners.measured import KnownNetwork, MeasuredNetwork, MeasuredRun, known
from sectum.lab.learners.native import NativeModel, Shared, fit
from sectum.lab.learners.paging_learning import PageCostModel, learn_page_costs
from sectum.lab.learners.splits import fold_numbers
from sectum.lab.learners.spread_learning import learn_spread
from sectum.lab.learners.three_constants import pages
from sectum.predict.overcommit import FEWEST, ErrorDistribution
from sectum.predict.spread import Spread, Width
from sectum.units import PAGE_BYTES

_HELD_OUT = 5
"""One in so many networks is held out, for the intervals."""
_FEWEST_ERRORS = 20


class OperatorsAndPages:
    """Sum of operator times, and modelled faults times their learned cost.

    Intervals are quantiles of the logarithmic errors that the same method makes on a fifth of the networks when it
    learns from the others, none of them relatives: natively, for those that fit, and for those that page. Errors are
    taken over the spread of the kinds of operators that a network is made of.
    """

    def __init__(self, name: str, shared: Shared) -> None:
        self.name = name
        self._shared = shared

    def fit(self, networks: Sequence[MeasuredNetwork]) -> FittedOperatorsAndPages:
        """Learn operator times and costs of pages, and the errors of both on held-out networks."""
        errors = working_set_errors(networks)
        spread, widths = _widths(networks, self._shared.lone)
        return FittedOperatorsAndPages(self._shared.native(networks), page_costs(networks), errors, widths, spread)


@dataclass(frozen=True)
class FittedOperatorsAndPages:
    """What was learned.

    Attributes:
        native: times of operators.
        costs: of pages, by machine.
        errors: of modelled working sets; None where there were too few networks.
        widths: by regime, quantiles of errors over the spread that make the 90 % interval of a prediction.
        spread: by kinds of operators; None where there were too few networks.
    """

    native: NativeModel
    costs: Mapping[str, PageCostModel]
    errors: ErrorDistribution | None
    widths: Mapping[str, Width]
    spread: Spread | None = None

    def predict(self, cases: Sequence[LatencyCase]) -> list[LatencyEstimate]:
        """Answer each case, in order."""
        times = self.native.normalized_times([case.network for case in cases])
        return [self._estimate(case, its) for case, its in zip(cases, times, strict=True)]

    def _estimate(self, case: LatencyCase, times: NDArray[np.float64]) -> LatencyEstimate:
        network = case.network
        native_ms = times * network.unit_ms
        latency_ms = float(native_ms.sum())
        if case.epc_pages is None:
            return LatencyEstimate(latency_ms, self._interval(latency_ms, "native", network, native_ms))
        if self.costs:
            costs = self.costs.get(network.machine) or next(iter(self.costs.values()))
            counts = network.paging(case.epc_pages)
            latency_ms += costs.normalized_time(network.features, counts, case.epc_pages) * network.references.sums_ms
        regime = "pages" if pages(case) else "fits"
        probability = over_commitment(network.trace.pages, case.epc_pages, self.errors)
        return LatencyEstimate(latency_ms, self._interval(latency_ms, regime, network, native_ms), probability)

    def _interval(
        self, latency_ms: float, regime: str, network: KnownNetwork, native_ms: NDArray[np.float64]
    ) -> Width | None:
        width = self.widths.get(regime)
        if width is None or self.spread is None:
            return None
        spread = self.spread.of(network.features, native_ms)
        low, high = (latency_ms * math.exp(quantile * spread) for quantile in width)
        return min(low, latency_ms), max(high, latency_ms)


def page_costs(networks: Sequence[MeasuredNetwork]) -> dict[str, PageCostModel]:
    """Costs of pages on each machine where some network pages."""
    found = {}
    for machine in sorted({network.machine for network in networks}):
        its = [network for network in networks if network.machine == machine]
        if any(run.over_committed and network.paging(run.epc_pages).loads for network in its for run in network.runs):
            found[machine] = learn_page_costs(its)
    return found


def over_commitment(working_set_pages: int, epc_pages: int, errors: ErrorDistribution | None) -> float:
    """Probability that the real working set does not fit; 0 or 1 where the model's errors are not known."""
    if errors is None:
        return float(working_set_pages > epc_pages)
    return float(errors.probability(math.log(max(1, working_set_pages) / epc_pages), 1.0))


def working_set_errors(networks: Sequence[MeasuredNetwork]) -> ErrorDistribution | None:
    """Errors of the modelled working sets; None where there are too few networks."""
    measured = [network for network in networks if network.trace.pages and network.working_set_bytes]
    if len(measured) < FEWEST:
        return None
    return ErrorDistribution.fit(
        [math.log(network.working_set_bytes / (network.trace.pages * PAGE_BYTES)) for network in measured]
    )


def _widths(networks: Sequence[MeasuredNetwork], lone: LoneOperators) -> tuple[Spread | None, dict[str, Width]]:
    numbers = fold_numbers(networks, folds=_HELD_OUT).tolist()
    learned = [network for network, number in zip(networks, numbers, strict=True) if number > 0]
    others = [network for network, number in zip(networks, numbers, strict=True) if number == 0]
    if not learned or not others:
        return None, {}
    fitted = FittedOperatorsAndPages(fit(learned, lone), page_costs(learned), None, {})
    cases, runs = _cases(others)
    errors = [
        math.log(run.latency_ms / estimate.latency_ms)
        for run, estimate in zip(runs, fitted.predict(cases), strict=True)
    ]
    times = fitted.native.normalized_times([case.network for case in cases])
    composed = [(case.network.features, its * case.network.unit_ms) for case, its in zip(cases, times, strict=True)]
    spread = learn_spread(composed, errors)
    relative: dict[str, list[float]] = {"native": [], "fits": [], "pages": []}
    for case, error, (features, times_ms) in zip(cases, errors, composed, strict=True):
        regime = "native" if case.epc_pages is None else "pages" if pages(case) else "fits"
        relative[regime].append(error / spread.of(features, times_ms))
    tail = (1 - NOMINAL_COVERAGE) / 2
    return spread, {
        regime: (float(np.quantile(found, tail)), float(np.quantile(found, 1 - tail)))
        for regime, found in relative.items()
        if len(found) >= _FEWEST_ERRORS
    }


def _cases(networks: Sequence[MeasuredNetwork]) -> tuple[list[LatencyCase], list[MeasuredRun]]:
    cases, runs = [], []
    for network in networks:
        view = known(network)
        for run in (network.native, *network.runs):
            cases.append(LatencyCase(view, run.epc_pages))
            runs.append(run)
    return cases, runs
