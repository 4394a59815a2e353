"""What a search asks of each candidate: its latency, the upper end of the interval, and a score if it is allowed."""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sectum.enclave.profile import Profile
from sectum.errors import UsageError
from sectum.plan.opening import OpeningCosts
from sectum.plan.search.network import Network, as_graph, check, name_of
from sectum.plan.search.objectives import Objective
from sectum.plan.search.plans import Plans
from sectum.predict.predictor import Predictor
from sectum.predict.prepared import Prepared
from sectum.predict.search import Candidate, Candidates
from sectum.process_pool import process_pool

if TYPE_CHECKING:  # what starts processes is loaded when there are some
    from concurrent.futures import Future, ProcessPoolExecutor

T = TypeVar("T")
_CHUNKS_AHEAD = 2
"""For each process: one chunk that it works on, and one that waits."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A candidate with its numbers, all predicted.

    Attributes:
        name: the candidate's.
        latency_ms: of one inference in the enclave; NaN if it could not be predicted.
        upper_ms: upper end of its 90 % interval, which the bound is for.
        score: of the objective; None if there is none: it is over the bound, or something failed.
        working_set_bytes: protected memory that an inference touches; without a plan.
        loads: pages loaded in an inference.
        probability: that the enclave is over-committed; without a plan.
        failure: what failed; empty otherwise.
        planned: whether it runs by a plan, which latency and loads are then of.
    """

    name: str
    latency_ms: float
    upper_ms: float
    score: float | None
    working_set_bytes: int
    loads: float
    probability: float
    failure: str = ""
    planned: bool = False

    @property
    def predicted(self) -> bool:
        """Whether there is a latency."""
        return math.isfinite(self.upper_ms)

    @property
    def overcommit(self) -> bool:
        """Whether every inference pages, as predicted."""
        return self.loads > 0


@dataclass(frozen=True)
class Setting:
    """What is the same for all candidates of a search.

    Attributes:
        predictor: whose predictions.
        profile: the enclave.
        bound_ms: no upper end of an interval may be above it.
        objective: what gives a score.
        batch: images in an inference.
        threads: compute threads of an inference.
        opening: what opening sealed weights costs. With it, a network that pages runs by its best plan if that is
            faster; see `sectum.plan.opening.costs_for`. None where networks run as they are.
    """

    predictor: Predictor
    profile: Profile
    bound_ms: float
    objective: Objective
    batch: int = 1
    threads: int = 1
    opening: OpeningCosts | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.bound_ms) and self.bound_ms > 0):
            raise UsageError(f"the bound is {self.bound_ms} ms: give a positive number of milliseconds")
        if self.opening is not None and self.profile.epc_bytes is None:
            raise UsageError(f"'{self.profile.name}' has no EPC: there is nothing to plan; choose another enclave")


class Evaluators:
    """Processes that evaluate candidates; with one worker, the caller's own.

    Use it as a context manager. A program with more than one worker needs the guard ``if __name__ == "__main__":``.

    Args:
        setting: the same for all candidates.
        workers: number of processes.
        at_a_time: candidates that a process takes at a time.
    """

    def __init__(self, setting: Setting, *, workers: int = 1, at_a_time: int = 1) -> None:
        if not 1 <= workers <= 1024:
            raise UsageError(f"workers is {workers}: give a number from 1 to 1024")
        self._setting, self._workers, self._at_a_time = setting, workers, at_a_time
        self._own: _Evaluator | None = None
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def run(self, drawn: Iterable[tuple[T, Network]]) -> Iterator[tuple[T, Evaluated]]:
        """Evaluate candidates in their order, while they are being drawn; a few chunks are held at a time.

        Args:
            drawn: networks, each with what the caller knows it by. A network may be a `Failure`.

        Raises:
            concurrent.futures.process.BrokenProcessPool: a process was killed.
        """
        chunks = _chunks(iter(drawn), self._at_a_time)
        if self._workers == 1:
            self._own = self._own or _Evaluator(self._setting)
            for chunk in chunks:
                yield from zip([key for key, _ in chunk], self._own.run([one for _, one in chunk]), strict=True)
            return
        pool = self._started()
        waiting: deque[tuple[list[T], Future[list[Evaluated]]]] = deque()
        try:
            for chunk in chunks:
                waiting.append(([key for key, _ in chunk], pool.submit(_run, [one for _, one in chunk])))
                if len(waiting) == _CHUNKS_AHEAD * self._workers:
                    keys, future = waiting.popleft()
                    yield from zip(keys, future.result(), strict=True)
            while waiting:
                keys, future = waiting.popleft()
                yield from zip(keys, future.result(), strict=True)
        finally:
            for _, future in waiting:
                future.cancel()

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = process_pool(self._workers, _begin, (self._setting,))
        return self._pool


@dataclass(frozen=True, slots=True)
class Failure:
    """In place of a network that could not be made.

    Attributes:
        name: of the candidate.
        reason: why.
    """

    name: str
    reason: str


class _Evaluator:
    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.candidates = Candidates(
            setting.predictor, setting.profile, batch=setting.batch, threads=setting.threads, workers=1, intervals=True
        )
        self.plans = None if setting.opening is None else Plans(setting.predictor, setting.profile, setting.opening)

    def run(self, networks: Sequence[Network | Failure]) -> list[Evaluated]:
        found: list[Evaluated | None] = [None] * len(networks)
        graphs: list[tuple[int, Any]] = []
        for index, network in enumerate(networks):
            if isinstance(network, Failure):
                found[index] = _failed(network.name, network.reason)
                continue
            try:
                check(network)
                graphs.append((index, as_graph(network, self.setting.batch)))
            except Exception as error:  # noqa: BLE001  # what is wrong with one is told beside it and ends no search
                found[index] = _failed(type(network).__name__, said(error))
        predicted = self._predicted([graph for _, graph in graphs])
        for (index, _), (candidate, prepared) in zip(graphs, predicted, strict=True):
            found[index] = self._scored(networks[index], self._latency(networks[index], candidate, prepared))
        return [one for one in found if one is not None]

    def _predicted(self, graphs: Sequence[Any]) -> Iterator[tuple[Candidate, Prepared | None]]:
        """Candidates, with what was prepared where plans need it: keeping it takes time."""
        if self.plans is not None:
            return self.candidates.with_prepared(graphs)
        return ((candidate, None) for candidate in self.candidates.predict(graphs))

    def _latency(self, network: Network, candidate: Candidate, prepared: Prepared | None) -> Evaluated:
        """A candidate's latency as it is, or by its best plan; without a score."""
        name = name_of(network)
        if candidate.error or candidate.upper_ms is None:
            return _failed(name, candidate.error)
        as_it_is = Evaluated(
            name=name,
            latency_ms=candidate.latency_ms,
            upper_ms=candidate.upper_ms,
            score=None,
            working_set_bytes=candidate.working_set_bytes,
            loads=candidate.loads,
            probability=candidate.probability,
        )
        if self.plans is None or prepared is None or not as_it_is.overcommit:
            return as_it_is
        try:
            plan = self.plans.best(prepared)
        except Exception as error:  # noqa: BLE001  # what is wrong with one is told beside it and ends no search
            return _failed(name, said(error))
        if plan is None:
            return as_it_is
        loads = sum(stage.loads for stage in plan.by_stage)
        return replace(as_it_is, latency_ms=plan.latency_ms, upper_ms=plan.interval_ms.high, loads=loads, planned=True)

    def _scored(self, network: Network, one: Evaluated) -> Evaluated:
        """The same with a score, if it is under the bound."""
        if one.failure or one.upper_ms > self.setting.bound_ms:
            return one
        try:
            score = float(self.setting.objective(network))
        except Exception as error:  # noqa: BLE001  # a user's function may raise anything
            return replace(one, failure=f"the objective raised {said(error)}")
        if not math.isfinite(score):
            return replace(one, failure=f"the objective gave {score}: a score is a finite number")
        return replace(one, score=score)


def said(error: BaseException) -> str:
    """An error with its type, shortened."""
    text = f"{type(error).__name__}: {error}"
    return text if len(text) <= 300 else f"{text[:297]}..."


def _failed(name: str, reason: str) -> Evaluated:
    return Evaluated(name, math.nan, math.nan, None, 0, math.nan, math.nan, reason)


_EVALUATOR: list[_Evaluator] = []
"""That of this process, where it is one that was spawned for a search."""


def _begin(setting: Setting) -> None:
    torch = sys.modules.get("torch")  # the objective needs it if it is here
    if torch is not None:
        torch.set_num_threads(1)  # the processes share the cores
    _EVALUATOR[:] = [_Evaluator(setting)]


def _run(networks: Sequence[Network | Failure]) -> list[Evaluated]:
    return _EVALUATOR[0].run(networks)


def _chunks(drawn: Iterator[T], size: int) -> Iterator[list[T]]:
    while chunk := list(islice(drawn, size)):
        yield chunk
