"""Sectum as its paper states it: a verdict on over-commitment, then operator-level models combined by regression.

The abstract (doi 10.1109/ICDCS54860.2022.00092) names a graph neural network for the first stage, and linear regression
over operator-level latency models for the second. What enters the regression beside the operators' sum is not told;
here it is, for over-committed networks, the bytes that do not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sectum.lab.evaluation.learner import Case, Estimate, KnownNetwork
from sectum.lab.learners.native import NativeModel, Shared, reference_ms
from sectum.lab.learners.regression import proportional
from sectum.lab.training.measured import MeasuredNetwork
from sectum.units import PAGE_BYTES

Floats = NDArray[np.float64]
Bytes = Callable[[MeasuredNetwork | KnownNetwork, int], float]


class FittedVerdict(Protocol):
    """A first stage that has learned."""

    def probabilities(self, cases: Sequence[Case]) -> Floats:
        """Of over-commitment, for cases in an enclave; shape ``(cases,)``."""
        ...


class Verdict(Protocol):
    """A first stage, which says whether a network pages under so much protected memory."""

    def fit(self, networks: Sequence[MeasuredNetwork]) -> FittedVerdict:
        """Learn from measured verdicts."""
        ...


class WorkingSetRule:
    """The modelled working set is larger than the EPC, or it is not. Nothing is learned."""

    def fit(self, networks: Sequence[MeasuredNetwork]) -> WorkingSetRule:  # noqa: ARG002
        """Nothing to do."""
        return self

    def probabilities(self, cases: Sequence[Case]) -> Floats:
        """0 or 1 for each case."""
        return np.array([float(case.network.trace.pages > (case.epc_pages or 0)) for case in cases])


def overflow_bytes(network: MeasuredNetwork | KnownNetwork, epc_pages: int) -> float:
    """What of the working set does not fit."""
    return float(max(0, network.trace.pages - epc_pages) * PAGE_BYTES)


def modelled_bytes(network: MeasuredNetwork | KnownNetwork, epc_pages: int) -> float:
    """What the page-replacement model says is loaded in an inference."""
    return network.paging(epc_pages).loads * PAGE_BYTES


class TwoStage:
    """A verdict, then the regression of its regime on the sum of operator latencies and paged bytes.

    Args:
        name: of the learner.
        shared: operator-level models, shared with the other learners of a fold.
        verdict: the first stage.
        paged: bytes that page, for the regression of over-committed networks.
    """

    def __init__(self, name: str, shared: Shared, verdict: Verdict, paged: Bytes) -> None:
        self.name = name
        self._shared = shared
        self._verdict = verdict
        self._paged = paged

    def fit(self, networks: Sequence[MeasuredNetwork]) -> _FittedTwoStage:
        """Fit the operator-level models, the three regressions, and the verdict."""
        model = self._shared.native(networks)
        units = np.array([reference_ms(network.typical) for network in networks])
        sums = model.references(networks)
        native = np.array([network.native.latency_ms for network in networks]) / units
        fits, pages = (
            [(i, run) for i, network in enumerate(networks) for run in network.runs if run.over_committed is over]
            for over in (False, True)
        )
        regressions = {"native": proportional(np.column_stack([sums, np.ones(len(sums))]), native)}
        for name, lines in (("fits", fits), ("pages", pages)):
            owners = np.array([i for i, _ in lines], dtype=np.int64)
            latencies = np.array([run.latency_ms for _, run in lines]) / units[owners]
            columns = [sums[owners], np.ones(len(lines))]
            if name == "pages":
                columns.append(np.array([self._paged(networks[i], run.epc_pages or 0) for i, run in lines]))
            regressions[name] = proportional(np.column_stack(columns), latencies)
        # A regime that was never seen is taken as native: there is nothing else to go by.
        regressions["fits"] = regressions["fits"] if fits else regressions["native"]
        if not pages:
            regressions["pages"] = np.append(regressions["fits"], 0.0)
        return _FittedTwoStage(
            model,
            self._shared.once(type(self._verdict).__name__, networks, self._verdict.fit),
            self._paged,
            regressions,
        )


@dataclass(frozen=True)
class _FittedTwoStage:
    native: NativeModel
    verdict: FittedVerdict
    paged: Bytes
    regressions: dict[str, Floats]

    def predict(self, cases: Sequence[Case]) -> list[Estimate]:
        sums = self.native.references([case.network for case in cases])
        inside = [index for index, case in enumerate(cases) if case.epc_pages is not None]
        probability: dict[int, float] = {}
        if inside:
            found = self.verdict.probabilities([cases[index] for index in inside]).tolist()
            probability = dict(zip(inside, found, strict=True))
        return [
            self._estimate(case, float(total), probability.get(index))
            for index, (case, total) in enumerate(zip(cases, sums, strict=True))
        ]

    def _estimate(self, case: Case, total: float, probability: float | None) -> Estimate:
        if case.epc_pages is None or probability is None:
            time = float(self.regressions["native"] @ (total, 1.0))
        elif probability < 0.5:
            time = float(self.regressions["fits"] @ (total, 1.0))
        else:
            time = float(self.regressions["pages"] @ (total, 1.0, self.paged(case.network, case.epc_pages)))
        return Estimate(time * reference_ms(case.network.references), over_commitment=probability)
