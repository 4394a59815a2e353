"""Measures a model in one process after another, until there is no time for one more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from sectum.enclave.runners.runner import MIN_EPC_BYTES, Job, ProcessMemory, Runner, RunningModel, Sample
from sectum.errors import EnclaveDeadline
from sectum.measure.sampling import Sampling, StoppedBecause, take_samples

_UNTIL_MEMORY_IS_PLANNED = 2  # inferences; the runtime plans memory in the first
_GRACE_S = 5.0  # how long after the deadline an inference that has begun may end
_COMPARISON_SHARE = 0.3
"""Of the time left: the most that is kept for comparing outputs."""
_PLANNING_SHARE = 0.25
"""Of the time left: if the first inference takes more, there is no time to evict all pages and warm up again."""


class TimeLeft:
    """Counts down to the deadline."""

    def __init__(self, deadline_s: float, clock: Callable[[], float]) -> None:
        self._clock, self._deadline_s = clock, deadline_s
        self._end_s = clock() + deadline_s

    @property
    def seconds(self) -> float:
        """Seconds until the deadline; 0 after it."""
        return max(0.0, self._end_s - self._clock())

    @property
    def share_passed(self) -> float:
        """Share of the time that has passed, from 0 to 1."""
        return min(1.0, 1 - self.seconds / self._deadline_s)

    @property
    def of_a_process(self) -> float:
        """Seconds that a process that starts now may live."""
        return self.seconds + _GRACE_S


@dataclass(frozen=True, slots=True)
class Visit:
    """The results of one process.

    Attributes:
        sampling: the samples.
        memory: of the process, after them.
        digest: of the outputs; empty where there was no time for them.
        versions: that the process reports.
        evicted: whether all pages were evicted before the samples, if they were to be.
    """

    sampling: Sampling
    memory: ProcessMemory
    digest: str
    versions: Mapping[str, str]
    evicted: bool


@dataclass(kw_only=True)
class Measuring:
    """A measurement under way: what all of its processes have in common, and what is being done."""

    runner: Runner
    job: Job
    share: float
    time_left: TimeLeft
    runs: int | None
    uncertainty_bound: float
    compare_native: bool
    as_loaded: bool
    progress: Callable[[str, float], None]
    clock: Callable[[], float]
    doing: str = ""

    def visits(self, most: int) -> Iterator[Visit]:
        """Measure in one process, and again in others while there is time for one more.

        Raises:
            EnclaveDeadline: not even one inference ended.
        """
        for number in range(most):
            before_s = self.time_left.seconds
            self._tell(f"loading the model, process {number + 1}")
            try:
                with self.runner.start(replace(self.job, deadline_s=self.time_left.of_a_process)) as session:
                    self._tell("running the first inference")
                    visited = self._visit(session)
            except EnclaveDeadline:
                if number:
                    return
                raise
            yield visited
            if before_s - self.time_left.seconds > self.time_left.seconds:
                return

    def _visit(self, session: RunningModel) -> Visit:
        earlier: list[Sample] = []
        evicted = True
        if self.job.epc_bytes is not None and self.runner.counts_pages and not self.as_loaded:
            earlier, evicted = _evict_all(session, self.job.epc_bytes, self.time_left)
        memory = session.memory()
        kept_s = _comparison_s(session, earlier, self.time_left) if self.compare_native else 0.0
        sampling = take_samples(
            session,
            threads=self.job.threads,
            share=self.share,
            time_s=self.time_left.seconds - kept_s,
            runs=self.runs,
            uncertainty_bound=self.uncertainty_bound,
            hard_limit=True,
            earlier=earlier,
            progress=self._tell,
            clock=self.clock,
        )
        digest = ""
        if sampling.stopped_because is not StoppedBecause.ENDED:
            memory = session.memory()
            if self.compare_native and sampling.samples[-1].wall_ns / 1e9 <= self.time_left.seconds:
                self._tell("comparing outputs")
                with suppress(EnclaveDeadline):
                    digest = session.outputs_digest()
        return Visit(sampling, memory, digest, session.info.versions, evicted)

    def _tell(self, what: str) -> None:
        self.doing = what
        self.progress(f"{what}, in {self.runner.name}", self.time_left.share_passed)


def _comparison_s(session: RunningModel, earlier: Sequence[Sample], time_left: TimeLeft) -> float:
    """Seconds to keep for comparing outputs: one inference here, another process, and one there."""
    needed_s = session.info.start_s + 2 * sum(sample.wall_ns for sample in earlier[-1:]) / 1e9
    return min(needed_s, _COMPARISON_SHARE * time_left.seconds)


def _evict_all(session: RunningModel, epc_bytes: int, time_left: TimeLeft) -> tuple[list[Sample], bool]:
    """Evict all pages once the runtime has planned its memory, unless inferences are too slow for that.

    Returns:
        the inferences that this took, and whether pages were evicted.
    """
    allowed_s = _PLANNING_SHARE * time_left.seconds
    done = session.sample(1)
    if done[-1].wall_ns / 1e9 > allowed_s:
        return done, False
    done += session.sample(_UNTIL_MEMORY_IS_PLANNED - 1)
    session.set_epc(MIN_EPC_BYTES)
    session.set_epc(epc_bytes)
    return done, True
