"""The paper's method as a learner: a verdict on over-commitment, then a linear regression for its regime.

`sectum.lab.paper` says what the paper states, and is this learner's serving form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sectum.lab.learners.learner import LatencyCase, LatencyEstimate
from sectum.lab.learners.measured import KnownNetwork, MeasuredNetwork
from sectum.lab.learners.native import Shared
from sectum.lab.learners.regression import proportional
from sectum.lab.paper import Regressions
from sectum.units import PAGE_BYTES

Floats = NDArray[np.float64]
PagedBytes = Callable[[LatencyCase, float], float]
"""Bytes that page in a case, given its estimated working set in bytes."""


@dataclass(frozen=True)
class Verdicts:
    """What a first stage says of cases in an enclave; both arrays have shape ``(cases,)``.

    Attributes:
        probability: of over-commitment.
        working_set_bytes: estimated.
    """

    probability: Floats
    working_set_bytes: Floats


class FittedVerdict(Protocol):
    """A first stage after training."""

    def judge(self, cases: Sequence[LatencyCase]) -> Verdicts:
        """Judge cases in an enclave."""
        ...


class Verdict(Protocol):
    """A first stage, which says whether a network pages under an EPC size."""

    def fit(self, networks: Sequence[MeasuredNetwork]) -> FittedVerdict:
        """Learn from measured networks."""
        ...


class WorkingSetRule:
    """The page model's working set is larger than the EPC, or it is not. Nothing is learned."""

    def fit(self, networks: Sequence[MeasuredNetwork]) -> WorkingSetRule:  # noqa: ARG002
        """Nothing to do."""
        return self

    def judge(self, cases: Sequence[LatencyCase]) -> Verdicts:
        """Probabilities are 0 or 1."""
        pages = np.array([case.network.trace.pages for case in cases], np.float64)
        fits = np.array([case.epc_pages or 0 for case in cases])
        return Verdicts((pages > fits).astype(np.float64), pages * PAGE_BYTES)


def overflow_bytes(case: LatencyCase, working_set_bytes: float) -> float:
    """The part of the working set that does not fit into the EPC."""
    return max(0.0, working_set_bytes - (case.epc_pages or 0) * PAGE_BYTES)


def modelled_bytes(case: LatencyCase, _working_set_bytes: float) -> float:
    """Bytes that the page-replacement model loads in an inference."""
    return case.network.paging(case.epc_pages).loads * PAGE_BYTES


class TwoStage:
    """A verdict, then the regression of its regime on the sum of operator latencies and the bytes that page."""

    def __init__(self, name: str, shared: Shared, verdict: Verdict, paged_bytes: PagedBytes = overflow_bytes) -> None:
        self.name = name
        self._shared = shared
        self._verdict = verdict
        self._paged_bytes = paged_bytes

    def fit(self, networks: Sequence[MeasuredNetwork]) -> FittedTwoStage:
        """Fit the operator latency models, the verdict, and the three regressions."""
        native = self._shared.native(networks)
        verdict = self._shared.once(type(self._verdict).__name__, networks, self._verdict.fit)
        regressions = fit_regressions(networks, native.normalized_latency(networks), verdict, self._paged_bytes)
        return FittedTwoStage(native.normalized_latency, verdict, regressions, self._paged_bytes)


def fit_regressions(
    networks: Sequence[MeasuredNetwork], sums: Floats, verdict: FittedVerdict, paged_bytes: PagedBytes = overflow_bytes
) -> Regressions:
    """Fit one regression for each regime, on rows of that regime as measured.

    Args:
        networks: to learn from.
        sums: of their operators' normalized latencies, shape ``(networks,)``.
        verdict: a fitted first stage; its working sets are used, its verdicts are not.
        paged_bytes: for over-committed networks.
    """
    native = np.array([network.native.latency_ms / network.unit_ms for network in networks])
    found = {"native": proportional(np.column_stack([sums, np.ones(len(sums))]), native)}
    for name, over_committed in (("fits", False), ("pages", True)):
        rows = [
            (index, run)
            for index, network in enumerate(networks)
            for run in network.runs
            if run.over_committed is over_committed
        ]
        if not rows:
            continue
        owners = np.array([index for index, _ in rows])
        latency = np.array([run.latency_ms / networks[index].unit_ms for index, run in rows])
        columns = [sums[owners], np.ones(len(rows))]
        if over_committed:
            cases = [LatencyCase(networks[index], run.epc_pages) for index, run in rows]
            working_sets = verdict.judge(cases).working_set_bytes.tolist()
            columns.append(np.array(list(map(paged_bytes, cases, working_sets))))
        found[name] = proportional(np.column_stack(columns), latency)
    # A regime that was never seen is taken as the one before it.
    fits = found.get("fits", found["native"])
    pages = found.get("pages", np.append(fits, 0.0))
    return Regressions(*(tuple(one.tolist()) for one in (found["native"], fits, pages)))


@dataclass(frozen=True)
class FittedTwoStage:
    """Both stages after training."""

    sums: Callable[[Sequence[KnownNetwork]], Floats]
    verdict: FittedVerdict
    regressions: Regressions
    paged_bytes: PagedBytes = overflow_bytes

    def predict(self, cases: Sequence[LatencyCase]) -> list[LatencyEstimate]:
        """Answer each case, in order."""
        inside = [case for case in cases if case.epc_pages is not None]
        verdicts = self.verdict.judge(inside)
        judged = iter(zip(verdicts.probability.tolist(), verdicts.working_set_bytes.tolist(), strict=True))
        estimates = []
        for case, total in zip(cases, self.sums([case.network for case in cases]).tolist(), strict=True):
            probability, paged = None, 0.0
            if case.epc_pages is not None:
                probability, working_set_bytes = next(judged)
                paged = self.paged_bytes(case, working_set_bytes)
            latency = self.regressions.latency(total, probability, paged)
            estimates.append(LatencyEstimate(latency * case.network.unit_ms, over_commitment=probability))
        return estimates
