"""Latencies of many architectures: what a search asks for each of its candidates, and no more.

Whole predictions say what each layer costs and how sure that is. A search wants one number for each of thousands of
networks. Architectures are handed to processes in chunks; each process lays out the networks of a chunk one by one and
asks the operator models about all their operators at once. The numbers are those of `Predictor.predict`, to the bit.
"""

from __future__ import annotations

import gc
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sectum.enclave.profile import Profile
from sectum.errors import UsageError
from sectum.graph.ir import Graph
from sectum.paging.compiled_replacement import CompiledReplacement, compiled_replacement
from sectum.paging.replacement import PagingCounts
from sectum.predict.cost import inference_costs
from sectum.predict.predictor import Predictor
from sectum.predict.prepared import Prepared, TracedNetwork
from sectum.process_pool import process_pool
from sectum.units import PAGE_BYTES
from sectum.zoo import Architecture, to_graph

if TYPE_CHECKING:  # predicting one network should not wait for what starts processes
    from concurrent.futures import Future, ProcessPoolExecutor

CHUNK = 32
"""Architectures that a process predicts at a time. Their operator times are looked up together, which is faster."""

_CHUNKS_AHEAD = 2
"""For each process: one that it works on, and one that waits, so that it need not."""

T = TypeVar("T")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one architecture costs in one steady-state inference, predicted.

    Attributes:
        name: the architecture's.
        latency_ms: of one inference in the enclave, in milliseconds of the predictor's machine.
        paging_ms: the part of it that is page faults, and entering the enclave.
        native_ms: latency outside an enclave.
        probability: that the enclave is over-committed, so that every inference pages. Without intervals it is that
            for operators of measured kinds only, which is not looked up then.
        working_set_bytes: protected memory that an inference touches.
        loads: pages loaded in an inference.
        upper_ms: upper end of the 90 % interval of the latency; None without intervals.
        error: why there is no prediction; then ``working_set_bytes`` is 0 and the other numbers are NaN.
    """

    name: str
    latency_ms: float
    paging_ms: float
    native_ms: float
    probability: float
    working_set_bytes: int
    loads: float
    upper_ms: float | None = None
    error: str = ""

    @classmethod
    def failed(cls, name: str, error: Exception) -> Self:
        """A candidate that could not be predicted."""
        said = f"{type(error).__name__}: {error}"
        return cls(name, math.nan, math.nan, math.nan, math.nan, 0, math.nan, error=said)


class Candidates:
    """Predicts architectures in one enclave. Its processes start at the first use and stay until it is closed.

    Use it as a context manager, or call `close`. A program that uses more than one process needs the usual guard
    ``if __name__ == "__main__":``, for they are spawned.

    Args:
        predictor: whose predictions.
        profile: the enclave.
        batch: images in an inference.
        threads: compute threads of an inference in the enclave.
        workers: processes; with 1 all is done in the caller's own.
        intervals: predict the upper end of each latency's interval as well, which takes longer.

    Raises:
        UsageError: a number out of its range.
    """

    def __init__(
        self,
        predictor: Predictor,
        profile: Profile,
        *,
        batch: int = 1,
        threads: int = 1,
        workers: int = 2,
        intervals: bool = False,
    ) -> None:
        for name, value, most in (("batch", batch, 1 << 20), ("threads", threads, 1024), ("workers", workers, 1024)):
            if not 1 <= value <= most:
                raise UsageError(f"{name} is {value}: give a number from 1 to {most}")
        self._job = _Job(predictor, profile, batch, threads, intervals=intervals)
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def predict(self, architectures: Iterable[Architecture | Graph]) -> Iterator[Candidate]:
        """Predict architectures, in their order, while they are being drawn. A graph has its own batch.

        At most a few chunks of `CHUNK` architectures are held at a time, however many there are. An architecture that
        cannot be predicted gives a candidate with an ``error`` and does not end the search.

        Raises:
            concurrent.futures.process.BrokenProcessPool: a process was killed.
        """
        chunks = _chunks(iter(architectures))
        if self._workers == 1:
            for chunk in chunks:
                yield from self._job.run(chunk)
            return
        pool = self._started()
        waiting: deque[Future[list[Candidate]]] = deque()
        try:
            for chunk in chunks:
                waiting.append(pool.submit(_run, chunk))
                if len(waiting) == _CHUNKS_AHEAD * self._workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def with_prepared(
        self, architectures: Iterable[Architecture | Graph]
    ) -> Iterator[tuple[Candidate, Prepared | None]]:
        """As `predict` in the caller's own process, each with the network that was prepared; None after an error."""
        for chunk in _chunks(iter(architectures)):
            yield from self._job.run_all(chunk)

    def close(self) -> None:
        """End the processes; they start again at the next use."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = process_pool(self._workers, _begin, (self._job,))
        return self._pool


def predict_many(
    predictor: Predictor,
    architectures: Iterable[Architecture | Graph],
    profile: Profile,
    *,
    batch: int = 1,
    threads: int = 1,
    workers: int = 2,
    intervals: bool = False,
) -> Iterator[Candidate]:
    """Predict architectures once: what `Candidates` does, with processes that end with the last of them."""
    options = {"batch": batch, "threads": threads, "workers": workers}
    with Candidates(predictor, profile, intervals=intervals, **options) as candidates:
        yield from candidates.predict(architectures)


class _Job:
    """What is the same for all architectures of a search; each process has one."""

    def __init__(self, predictor: Predictor, profile: Profile, batch: int, threads: int, *, intervals: bool) -> None:
        self.predictor = predictor
        self.intervals = intervals
        self.profile = predictor.with_measured_costs(profile, threads)
        self.batch = batch
        self.threads = threads

    def run(self, architectures: Sequence[Architecture | Graph]) -> list[Candidate]:
        """Predict a chunk. What was prepared is freed before garbage is looked for."""
        with _no_collections():
            return [candidate for candidate, _ in self._run(architectures)]

    def run_all(self, architectures: Sequence[Architecture | Graph]) -> list[tuple[Candidate, Prepared | None]]:
        """Predict a chunk; each candidate with what was prepared for it."""
        with _no_collections():
            return self._run(architectures)

    def _run(self, architectures: Sequence[Architecture | Graph]) -> list[tuple[Candidate, Prepared | None]]:
        found: list[tuple[Candidate, Prepared | None] | None] = [None] * len(architectures)

        def tried(step: Callable[[T], Made], index: int, argument: T) -> Iterator[tuple[int, Made]]:
            try:
                yield index, step(argument)
            except Exception as error:  # noqa: BLE001  # what is wrong with one is told beside it and ends no search
                found[index] = Candidate.failed(str(getattr(architectures[index], "name", "")), error), None

        traced = [pair for i, one in enumerate(architectures) for pair in tried(self._trace, i, one)]
        prepared = self.predictor.prepare_all([one for _, one in traced])
        of_index = [(i, one) for (i, _), one in zip(traced, prepared, strict=True)]
        counted = [pair for i, one in of_index for pair in tried(self._count, i, one)]
        finished = self._finish([one for _, one in counted])
        for (index, (network, _)), candidate in zip(counted, finished, strict=True):
            found[index] = candidate, network
        return [one for one in found if one is not None]

    def _trace(self, architecture: Architecture | Graph) -> TracedNetwork:
        if isinstance(architecture, Graph):
            graph = architecture
        else:  # The runtime folds these normalizations anyway: it executes the same, and there is less to rewrite.
            graph = to_graph(architecture, self.batch, fold_batch_norm=True)
        return self.predictor.trace(graph, threads=self.threads)

    def _count(self, network: Prepared) -> tuple[Prepared, PagingCounts]:
        epc_pages = self.profile.epc_pages
        pages = epc_pages is not None and network.trace.pages > epc_pages
        return network, network.counts(self.profile, epc_pages, self._compiled if pages else None)

    @cached_property
    def _compiled(self) -> CompiledReplacement | None:
        return compiled_replacement()

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs; it loads the compiled rule itself."""
        return {name: value for name, value in vars(self).items() if name != "_compiled"}

    def _finish(self, counted: Sequence[tuple[Prepared, PagingCounts]]) -> Iterator[Candidate]:
        for inference in inference_costs(self.predictor.operators, self.profile, counted):
            network, breakdown = inference.network, inference.breakdown_ms
            pages = network.trace.pages
            uncertain_pages = network.uncertain_pages if self.intervals else 0
            probability = self.predictor.overcommit_probability(pages, self.profile.epc_pages, uncertain_pages)
            upper_ms = None
            if self.intervals:
                upper_ms = self.predictor.interval(self.profile, inference, probability).high
            yield Candidate(
                name=network.source.name,
                latency_ms=breakdown.total,
                paging_ms=breakdown.paging,
                native_ms=float(network.native_ms.sum()),
                probability=probability,
                working_set_bytes=pages * PAGE_BYTES,
                loads=inference.counts.loads,
                upper_ms=upper_ms,
            )


_JOB: list[_Job] = []
"""The job of this process, where it is one that was spawned for a search."""


def _begin(job: _Job) -> None:
    _JOB[:] = [job]
    gc.freeze()


def _run(architectures: Sequence[Architecture | Graph]) -> list[Candidate]:
    return _JOB[0].run(architectures)


def _chunks(architectures: Iterator[T]) -> Iterator[list[T]]:
    while chunk := list(islice(architectures, CHUNK)):
        yield chunk


@contextmanager
def _no_collections() -> Iterator[None]:
    """Let no garbage be looked for meanwhile: hundreds of thousands of small objects live just as long as a chunk."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
