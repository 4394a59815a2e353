"""What knowing the EPC is worth: the choices of the same search by a predictor that does not know it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sectum.enclave.profile import Profile
from sectum.errors import UsageError
from sectum.plan.search.front import Found
from sectum.plan.search.network import as_graph
from sectum.predict import Predictor
from sectum.predict.search import Candidate, Candidates


@dataclass(frozen=True, slots=True)
class Choice:
    """One architecture of a front, and what a search without the EPC would have chosen for a score as high.

    Attributes:
        aware: the architecture.
        blind: the other: the fastest of at least that score, with its numbers without the EPC; None if there is none.
        in_epc: the other's prediction with the EPC.
    """

    aware: Found
    blind: Found | None
    in_epc: Candidate | None

    @property
    def times(self) -> float | None:
        """How many times as long the other takes with the EPC, predicted."""
        if self.in_epc is None or not math.isfinite(self.in_epc.latency_ms):
            return None
        return self.in_epc.latency_ms / self.aware.evaluated.latency_ms


def without_epc(profile: Profile) -> Profile:
    """The enclave as a predictor sees it that does not know the EPC: nothing is ever paged.

    Raises:
        UsageError: the enclave has no EPC.
    """
    if profile.epc_bytes is None:
        raise UsageError(f"'{profile.name}' has no EPC: there is nothing to compare; choose another enclave")
    return profile.with_epc(None)


def choices(
    aware: Sequence[Found],
    blind: Sequence[Found],
    predictor: Predictor,
    profile: Profile,
    *,
    batch: int = 1,
    threads: int = 1,
) -> tuple[Choice, ...]:
    """For each architecture of a front the choice without the EPC.

    Args:
        aware: front of a search.
        blind: front of the same search in `without_epc` of the enclave.
        predictor: whose predictions.
        profile: the enclave.
        batch: images in an inference.
        threads: compute threads of an inference.
    """
    with Candidates(predictor, profile, batch=batch, threads=threads, workers=1, intervals=True) as candidates:
        predicted = list(candidates.predict(as_graph(one.network, batch) for one in blind))
    found = []
    for one in aware:
        enough = next((index for index, other in enumerate(blind) if _score(other) >= _score(one)), None)
        if enough is None:
            found.append(Choice(one, None, None))
        else:
            found.append(Choice(one, blind[enough], predicted[enough]))
    return tuple(found)


def _score(found: Found) -> float:
    score = found.evaluated.score
    assert score is not None, "a front has scores"
    return score
