"""The seam of compared learners: each learns latencies from measured networks and predicts those of held-out networks.

A fitted learner gets a `KnownNetwork`: what is known before a measurement, without a reference to the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sectum.lab.learners.measured import KnownNetwork, MeasuredNetwork

NOMINAL_COVERAGE = 0.9
"""Share of measured latencies that intervals are to hold."""


@dataclass(frozen=True, slots=True)
class LatencyCase:
    """A question: the latency of a network under an EPC size.

    Attributes:
        network: as far as it is known.
        epc_pages: whole pages of protected memory; None outside enclaves.
    """

    network: KnownNetwork
    epc_pages: int | None


@dataclass(frozen=True, slots=True)
class LatencyEstimate:
    """An answer.

    Attributes:
        latency_ms: of an inference, at the machine's typical speed.
        interval_ms: the 90 % interval; None where the learner gives none.
        over_commitment: probability that the network pages, from 0 to 1; None where the learner gives none.
    """

    latency_ms: float
    interval_ms: tuple[float, float] | None = None
    over_commitment: float | None = None


class FittedLearner(Protocol):
    """A learner after training."""

    def predict(self, cases: Sequence[LatencyCase]) -> Sequence[LatencyEstimate]:
        """Answer each case, in order."""
        ...


class LatencyLearner(Protocol):
    """A way to learn latencies.

    Attributes:
        name: short, of lower-case letters and dashes.
    """

    name: str

    def fit(self, networks: Sequence[MeasuredNetwork]) -> FittedLearner:
        """Learn from networks, each measured natively and under some EPC sizes.

        It may keep what it computes from their graphs in the networks; it changes nothing else.
        """
        ...
