"""The cheapest changes with which a network meets a latency bound.

The changes are of few kinds, which `KINDS` lists from the cheapest to the dearest. Sets of kinds are tried in the order
of their cost: whether the largest changes together meet the bound, and if so, how small each may be, the dearest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from sectum.enclave.profile import Profile
from sectum.errors import ModelError
from sectum.graph.ir import Graph
from sectum.plan.latency import Estimate, LatencyModel
from sectum.units import MIB

PLAN, BATCH, THREADS, EPC, ENCLAVES = "planned", "batch", "threads", "epc_bytes", "enclaves"
RESOLUTION, WIDTH = "resolution", "width"
KINDS = (PLAN, BATCH, THREADS, EPC, ENCLAVES, RESOLUTION, WIDTH)
"""Fields of a `Setup` that may change, from the cheapest to the dearest."""

_FREE = (PLAN, THREADS)
"""Kinds that are combined with each other and with one more."""
_EPC_MARGIN = 1.05
"""The largest EPC that is tried, over the working set: one that just holds it may page, or may not."""
_ABOUT_AS_NEAR = 1.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How a network runs.

    Attributes:
        planned: whether by its best plan.
        batch: samples in one inference.
        threads: all of them; of several enclaves, those of each.
        epc_bytes: of each enclave; None where it has no EPC.
        enclaves: that share the network, by a plan of their own.
        resolution: of the images, in pixels; None where it cannot change.
        width: of the network, over that of the published one.
    """

    planned: bool = False
    batch: int
    threads: int
    epc_bytes: int | None
    enclaves: int = 1
    resolution: int | None = None
    width: float = 1.0

    def changed(self, base: Setup) -> tuple[str, ...]:
        """The kinds in which it differs from another setup, the cheapest first."""
        return tuple(kind for kind in KINDS if getattr(self, kind) != getattr(base, kind))


@dataclass(frozen=True, slots=True)
class Choice:
    """A setup, and what an inference takes in it."""

    setup: Setup
    estimate: Estimate


@dataclass(frozen=True)
class Advised:
    """What meets a bound.

    Attributes:
        now: as the network runs now.
        meets: whether that meets the bound already.
        choices: what meets it, the cheapest first. None has all the kinds of changes of another one.
        nearest: where nothing meets it, the choice with the least latency; of those about as near, the cheapest.
    """

    now: Choice
    meets: bool
    choices: tuple[Choice, ...]
    nearest: Choice | None


@dataclass(frozen=True)
class Question:
    """A network, how it runs now, and what of that may change.

    Attributes:
        base: how it runs now.
        networks: gives the network with the batch, the resolution and the width of a setup; raises a `ModelError` where
            there is none. It is asked once for each of these.
        profile: of the enclave; its EPC is that of the setup.
        models: gives what predicts the networks of a setup.
        values: for each kind but `EPC` the values to try, from the smallest change to the largest. A kind that is
            missing does not change. The EPC grows where there is one.
    """

    base: Setup
    networks: Callable[[Setup], Graph]
    profile: Profile
    models: Callable[[Setup], LatencyModel]
    values: Mapping[str, Sequence[Any]] = field(default_factory=dict)


def cost(kinds: Sequence[str]) -> tuple[int, ...]:
    """What orders sets of kinds: the dearest kind, then how many they are, then the others from the dearest on."""
    ranks = sorted(map(KINDS.index, kinds), reverse=True)
    return (ranks[0], len(ranks), *ranks[1:]) if ranks else ()


def meet_bound(
    question: Question,
    bound_ms: float,
    *,
    surely: bool = True,
    progress: Callable[[str, float], None] = lambda _what, _share: None,
) -> Advised:
    """Find the cheapest changes that meet a latency bound.

    Args:
        question: the network, and what may change.
        bound_ms: the most that one inference may take.
        surely: the upper end of the interval meets it; if not, the predicted latency does.
        progress: is told what is tried, and the share that is done.

    Raises:
        ModelError: the network cannot be predicted as it is.
    """
    search = _Search(question, bound_ms, surely=surely)
    now = Choice(question.base, search.estimate(question.base))
    if search.meets(now.estimate):
        return Advised(now, meets=True, choices=(), nearest=None)
    choices: list[Choice] = []
    nearest: list[Choice] = []
    sets = sorted(search.sets(), key=cost)
    for number, kinds in enumerate(sets):
        if any(set(one.setup.changed(question.base)) <= set(kinds) for one in choices):
            continue
        progress(", ".join(kinds), number / len(sets))
        farthest = search.farthest(kinds)
        if farthest is None:
            continue
        if search.meets(farthest.estimate):
            choices.append(search.smallest(farthest, kinds))
        else:
            nearest.append(farthest)
    choices.sort(key=lambda one: cost(one.setup.changed(question.base)))
    nearest_of_all = None if choices else search.cheapest_of(nearest)
    return Advised(now, meets=False, choices=tuple(choices), nearest=nearest_of_all)


class _Search:
    """Tries setups of a question; each once."""

    def __init__(self, question: Question, bound_ms: float, *, surely: bool) -> None:
        self._question, self._bound_ms, self._surely = question, bound_ms, surely
        self._graphs: dict[tuple[int, int | None, float], Graph] = {}
        self._estimates: dict[Setup, Estimate] = {}

    def sets(self) -> Iterator[tuple[str, ...]]:
        """The sets of kinds to try."""
        question = self._question
        grows = question.base.epc_bytes is not None
        possible = [kind for kind in KINDS if (grows if kind == EPC else question.values.get(kind))]
        free = [kind for kind in possible if kind in _FREE]
        others = [(kind,) for kind in possible if kind not in _FREE]
        for chosen in product(*[((), (kind,)) for kind in free], ((), *others)):
            kinds = [kind for part in chosen for kind in part]
            if kinds and not {PLAN, ENCLAVES} <= set(kinds):  # several enclaves have a plan anyway
                yield tuple(sorted(kinds, key=KINDS.index))

    def estimate(self, setup: Setup) -> Estimate:
        """What an inference takes.

        Raises:
            ModelError: the network cannot be made so, or cannot be predicted.
        """
        if setup not in self._estimates:
            question, key = self._question, (setup.batch, setup.resolution, setup.width)
            if key not in self._graphs:
                self._graphs[key] = question.networks(setup)
            profile = question.profile if setup.epc_bytes is None else question.profile.with_epc(setup.epc_bytes)
            self._estimates[setup] = question.models(setup).latency(self._graphs[key], profile, threads=setup.threads)
        return self._estimates[setup]

    def value_ms(self, estimate: Estimate) -> float:
        """What is compared with the bound."""
        return estimate.interval_ms.high if self._surely else estimate.latency_ms

    def meets(self, estimate: Estimate) -> bool:
        """Whether it meets the bound."""
        return self.value_ms(estimate) <= self._bound_ms

    def values(self, kind: str, setup: Setup) -> Sequence[Any]:
        """Values of a kind, from the smallest change to the largest, beside what else a setup has."""
        if kind != EPC or setup.epc_bytes is None:
            return self._question.values.get(kind, ())
        working_set = self.estimate(replace(setup, planned=False)).working_set_bytes
        first, last = setup.epc_bytes // MIB + 1, -(-int(_EPC_MARGIN * working_set) // MIB)
        return range(first * MIB, (last + 1) * MIB, MIB)

    def farthest(self, kinds: Sequence[str]) -> Choice | None:
        """All of these kinds changed as far as possible; None where that cannot be, or one of them is in vain."""
        setup = self._question.base
        try:
            for kind in sorted(kinds, key=lambda one: one == EPC):  # the others decide the working set
                values = self.values(kind, setup)
                if not values:
                    return None
                setup = replace(setup, **{kind: values[-1]})
            return Choice(setup, self.estimate(setup))
        except ModelError:
            return None

    def smallest(self, choice: Choice, kinds: Sequence[str]) -> Choice:
        """Make each change as small as it may be, the dearest first."""
        setup = choice.setup
        for kind in sorted(kinds, key=KINDS.index, reverse=True):
            values = self.values(kind, replace(setup, **{kind: getattr(self._question.base, kind)}))
            setup = self._first_that_meets(setup, kind, values)
        return Choice(setup, self.estimate(setup))

    def _first_that_meets(self, setup: Setup, kind: str, values: Sequence[Any]) -> Setup:
        """Halve the values again and again; the last one meets the bound."""
        failing, meeting = -1, len(values) - 1
        found = setup
        while meeting - failing > 1:
            middle = (failing + meeting) // 2
            tried = replace(setup, **{kind: values[middle]})
            try:
                good = self.meets(self.estimate(tried))
            except ModelError:
                good = False
            if good:
                meeting, found = middle, tried
            else:
                failing = middle
        return found

    def cheapest_of(self, choices: Sequence[Choice]) -> Choice | None:
        """Of those about as near as the nearest, the cheapest."""
        if not choices:
            return None
        least = min(self.value_ms(one.estimate) for one in choices)
        near = [one for one in choices if self.value_ms(one.estimate) <= _ABOUT_AS_NEAR * least]
        return min(near, key=lambda one: cost(one.setup.changed(self._question.base)))
