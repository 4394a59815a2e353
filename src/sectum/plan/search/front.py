"""The Pareto front of candidates under a bound, and why there is none."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sectum.errors import BoundNotMet, ObjectiveFailed, SpaceInvalid
from sectum.plan.search.evaluating import Evaluated, Evaluators, Setting
from sectum.plan.search.network import Network
from sectum.units import format_bytes

_NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Found:
    """A candidate of which there is none both faster and of a higher score.

    Attributes:
        evaluated: its numbers.
        network: itself.
        parameters: what it was made from; empty where it was given.
    """

    evaluated: Evaluated
    network: Network
    parameters: Mapping[str, Any] = field(default_factory=dict)


class Front:
    """The best candidates so far, by latency. Their scores rise with their latencies.

    `add` takes what is known of a candidate; `check` says why there is no front.

    Attributes:
        seen: candidates that were added.
        met: those of them whose interval ends under the bound.
        failed: those that could not be predicted, or not be scored.
        first_failure: what the first of them failed by; empty if none failed.
    """

    def __init__(self, bound_ms: float) -> None:
        self.bound_ms = bound_ms
        self.seen = self.met = self.failed = 0
        self.first_failure = ""
        self._nearest: tuple[Evaluated, Mapping[str, Any]] | None = None
        self._latencies: list[float] = []
        self._best: list[tuple[Evaluated, Any]] = []

    def add(self, one: Evaluated, kept: Any = None, parameters: Mapping[str, Any] = _NONE) -> None:
        """Count a candidate, and keep it if it is among the best.

        Args:
            one: its numbers.
            kept: what `best` gives beside them.
            parameters: what it was made from, for messages.
        """
        self.seen += 1
        if one.failure:
            self.failed += 1
            self.first_failure = self.first_failure or f"{one.name}: {one.failure}"
        if not one.predicted:
            return
        self.met += one.upper_ms <= self.bound_ms
        if self._nearest is None or one.upper_ms < self._nearest[0].upper_ms:
            self._nearest = one, parameters
        if one.score is None or one.upper_ms > self.bound_ms:
            return
        at = bisect.bisect_right(self._latencies, one.latency_ms)
        before = self._best[at - 1][0].score if at else None
        if before is not None and before >= one.score:
            return
        first = bisect.bisect_left(self._latencies, one.latency_ms)  # of those that are as slow, this is the best
        last = at
        while last < len(self._best) and self._score(last) <= one.score:
            last += 1
        self._latencies[first:last] = [one.latency_ms]
        self._best[first:last] = [(one, kept)]

    def _score(self, index: int) -> float:
        score = self._best[index][0].score
        assert score is not None
        return score

    @property
    def best(self) -> list[tuple[Evaluated, Any]]:
        """The front, the fastest first, each with what it was kept with."""
        return list(self._best)

    def check(self) -> None:
        """Check that there is a front.

        Raises:
            SpaceInvalid: there was no candidate, or none could be made and predicted.
            BoundNotMet: none is under the bound.
            ObjectiveFailed: none under the bound has a score.
        """
        if self._best:
            return
        if not self.seen:
            raise SpaceInvalid("there was no architecture to look at: give at least one")
        if self._nearest is None:
            raise SpaceInvalid(
                f"none of {self.seen:,} architectures could be predicted. The first, {self.first_failure}. Correct the "
                "space"
            )
        nearest, parameters = self._nearest
        described = _described(nearest, parameters)
        if not self.met:
            raise BoundNotMet(
                f"none of {self.seen:,} architectures is predicted to stay under {_ms(self.bound_ms)} at the upper end "
                f"of its 90 % interval. The nearest is {described}. Allow {_ms(nearest.upper_ms, up=True)}, give more "
                "EPC, or add smaller choices to the space"
            )
        raise ObjectiveFailed(
            f"the objective gave no score to any of the {self.met:,} architectures under {_ms(self.bound_ms)}. The "
            f"first failure, {self.first_failure}. Without a score, the fastest is {described}"
        )


def _described(one: Evaluated, parameters: Mapping[str, Any]) -> str:
    pages = "; it pages" if one.overcommit else ""
    made_from = ", ".join(f"{name} = {value}" for name, value in parameters.items())
    return (
        f"{one.name}: {_ms(one.latency_ms)}, at most {_ms(one.upper_ms, up=True)}, working set "
        f"{format_bytes(one.working_set_bytes)}{pages}" + (f" ({made_from})" if made_from else "")
    )


def _ms(value: float, *, up: bool = False) -> str:
    """A time in messages; with ``up`` never less than it is."""
    rounded = float(f"{value:.3g}")
    if up and rounded < value:
        rounded = float(f"{value * 1.005:.3g}")
    return f"{rounded:,g} ms"


def front_of(
    networks: Iterable[Network], setting: Setting, *, workers: int = 1, at_a_time: int = 1
) -> tuple[Found, ...]:
    """The best of any networks, as they come from any search or list. Needs no library for searching.

    Args:
        networks: architectures of `sectum.zoo`, PyTorch modules, or pairs of a module and its example inputs. They are
            taken as they are evaluated, and only the best are kept.
        setting: enclave, bound and objective.
        workers: processes; with more than one, the caller's program needs ``if __name__ == "__main__":``.
        at_a_time: networks that a process takes at a time.

    Returns:
        Those that meet the bound and of which no other is both faster and of a higher score, the fastest first.

    Raises:
        SpaceInvalid: there was no network, or none could be predicted.
        BoundNotMet: none is predicted under the bound; the message names the nearest.
        ObjectiveFailed: none under the bound has a score.
    """
    front = Front(setting.bound_ms)
    with Evaluators(setting, workers=workers, at_a_time=at_a_time) as evaluators:
        for network, one in evaluators.run((network, network) for network in networks):
            front.add(one, network)
    front.check()
    return tuple(Found(one, network) for one, network in front.best)
