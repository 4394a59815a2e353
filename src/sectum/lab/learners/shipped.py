"""The shipped method as a learner: operator times learned, page faults modelled, the cost of a page measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sectum.lab.learners.learner import NOMINAL_COVERAGE, LatencyCase, LatencyEstimate
from sectum.lab.learners.measured import MeasuredNetwork, MeasuredRun, known
from sectum.lab.learners.native import NativeModel, Shared, fit
from sectum.lab.learners.paging_learning import PageCostModel, learn_page_costs
from sectum.lab.learners.splits import fold_numbers
from sectum.lab.learners.three_constants import pages
from sectum.predict.overcommit import FEWEST, ErrorDistribution
from sectum.units import PAGE_BYTES

Width = tuple[float, float]

_HELD_OUT = 5
"""One in so many networks is held out, for the intervals."""
_FEWEST_ERRORS = 20


class OperatorsAndPages:
    """Sum of operator times, and modelled faults times their learned cost.

    Intervals are quantiles of the logarithmic errors that the same method makes on a fifth of the networks when it
    learns from the others, none of them relatives: natively, for those that fit, and for those that page.
    """

    def __init__(self, name: str, shared: Shared) -> None:
        self.name = name
        self._shared = shared

    def fit(self, networks: Sequence[MeasuredNetwork]) -> FittedOperatorsAndPages:
        """Learn operator times and costs of pages, and the errors of both on held-out networks."""
        errors = working_set_errors(networks)
        return FittedOperatorsAndPages(self._shared.native(networks), page_costs(networks), errors, _widths(networks))


@dataclass(frozen=True)
class FittedOperatorsAndPages:
    """What was learned.

    Attributes:
        native: times of operators.
        costs: of pages, by machine.
        errors: of modelled working sets; None where there were too few networks.
        widths: by regime, factors that make the 90 % interval of a prediction.
    """

    native: NativeModel
    costs: Mapping[str, PageCostModel]
    errors: ErrorDistribution | None
    widths: Mapping[str, Width]

    def predict(self, cases: Sequence[LatencyCase]) -> list[LatencyEstimate]:
        """Answer each case, in order."""
        native = self.native.normalized_latency([case.network for case in cases])
        return [self._estimate(case, float(time)) for case, time in zip(cases, native, strict=True)]

    def _estimate(self, case: LatencyCase, native: float) -> LatencyEstimate:
        latency_ms = native * case.network.unit_ms
        if case.epc_pages is None:
            return LatencyEstimate(latency_ms, self._interval(latency_ms, "native"))
        network = case.network
        if self.costs:
            costs = self.costs.get(network.machine) or next(iter(self.costs.values()))
            counts = network.paging(case.epc_pages)
            latency_ms += costs.normalized_time(network.features, counts, case.epc_pages) * network.references.sums_ms
        regime = "pages" if pages(case) else "fits"
        probability = over_commitment(network.trace.pages, case.epc_pages, self.errors)
        return LatencyEstimate(latency_ms, self._interval(latency_ms, regime), probability)

    def _interval(self, latency_ms: float, regime: str) -> Width | None:
        width = self.widths.get(regime)
        return None if width is None else (latency_ms * width[0], latency_ms * width[1])


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


def _widths(networks: Sequence[MeasuredNetwork]) -> dict[str, Width]:
    numbers = fold_numbers(networks, folds=_HELD_OUT).tolist()
    learned = [network for network, number in zip(networks, numbers, strict=True) if number > 0]
    others = [network for network, number in zip(networks, numbers, strict=True) if number == 0]
    if not learned or not others:
        return {}
    errors: dict[str, list[float]] = {"native": [], "fits": [], "pages": []}
    fitted = FittedOperatorsAndPages(fit(learned), page_costs(learned), None, {})
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


def _cases(networks: Sequence[MeasuredNetwork]) -> tuple[list[LatencyCase], list[MeasuredRun]]:
    cases, runs = [], []
    for network in networks:
        view = known(network)
        for run in (network.native, *network.runs):
            cases.append(LatencyCase(view, run.epc_pages))
            runs.append(run)
    return cases, runs
