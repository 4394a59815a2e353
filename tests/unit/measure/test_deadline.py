"""Measuring under a deadline: slow models on a clock that the test turns."""

from __future__ import annotations

from types import TracebackType

import pytest

from sectum.enclave.runners.runner import Job, OperatorTime, ProcessMemory, Sample, SessionInfo
from sectum.errors import EnclaveDeadline
from sectum.graph.ir import Graph
from sectum.measure import Measurement, measure
from sectum.measure.visits import _GRACE_S
from sectum.testing.tiny_models import convolutions

EPC_BYTES = 1 << 20


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Model:
    """The part of a model that measuring needs."""

    graph = Graph("slow", (), {}, (), (), 17)

    def bound_bytes(self) -> bytes:
        """Return a model that is never run."""
        return convolutions()


class SlowSession:
    """Each inference takes the next time of a script; the process is ended where its job says."""

    def __init__(self, clock: Clock, latencies_s: list[float], loading_s: float, job: Job) -> None:
        self.info = SessionInfo(start_s=loading_s)
        self._clock, self._latencies_s = clock, latencies_s
        self._ends_s = clock.now_s + job.deadline_s
        self._pass(loading_s)

    def _pass(self, seconds: float) -> None:
        if self._clock.now_s + seconds > self._ends_s:
            self._clock.now_s = self._ends_s
            raise EnclaveDeadline("ended")
        self._clock.now_s += seconds

    def sample(self, n: int) -> list[Sample]:
        """Let the time of ``n`` inferences pass."""
        made = []
        for _ in range(n):
            seconds = self._latencies_s.pop(0) if len(self._latencies_s) > 1 else self._latencies_s[0]
            self._pass(seconds)
            made.append(Sample(int(seconds * 1e9), int(seconds * 1e9), *[2_500_000] * 4, loads=500, evictions=500))
        return made

    def outputs_digest(self) -> str:
        """Let the time of an inference pass."""
        self.sample(1)
        return "0" * 64

    def memory(self) -> ProcessMemory:
        """Take no time."""
        return ProcessMemory(3, 2, 2, 1)

    def set_epc(self, epc_bytes: int | None) -> None:
        """Take no time."""

    def operator_times(self, n: int) -> list[OperatorTime]:
        """Know no operator."""
        return []

    def close(self) -> None:
        """Do nothing."""

    def __enter__(self) -> SlowSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class SlowRunner:
    """Starts slow sessions.

    Args:
        clock: that they turn.
        latencies_s: of the inferences of each session; the last one is repeated.
        loading_s: before a session is ready.
    """

    name = "slow"
    provenance = "unverified"
    counts_pages = True

    def __init__(self, clock: Clock, *latencies_s: float, loading_s: float = 0.1) -> None:
        self._clock, self._latencies_s, self._loading_s = clock, latencies_s, loading_s
        self.jobs: list[Job] = []

    def check(self) -> None:
        """Be usable."""

    def start(self, job: Job) -> SlowSession:
        """Load the model."""
        self.jobs.append(job)
        return SlowSession(self._clock, list(self._latencies_s), self._loading_s, job)


def measured(clock: Clock, runner: SlowRunner, deadline_s: float, **conditions: object) -> Measurement:
    return measure(
        Model(),
        runner,
        epc_bytes=EPC_BYTES,
        deadline_s=deadline_s,
        compare_native=False,
        clock=clock,
        **conditions,  # type: ignore[arg-type]
    )


def test_a_model_that_is_slower_than_the_deadline_gives_its_one_inference() -> None:
    """An inference that began before the deadline is the result, even if it ends after it."""
    clock = Clock()
    found = measured(clock, SlowRunner(clock, 12.0), deadline_s=10.0)
    assert len(found.samples) == 1
    assert found.samples[0]["latency_ms"] == pytest.approx(12_000)
    assert found.stopped_because == "deadline"
    assert not found.settled
    assert clock.now_s == pytest.approx(12.1)


@pytest.mark.parametrize("latency_s", [0.02, 0.3, 1.0, 2.0, 4.0])
def test_the_deadline_is_kept(latency_s: float) -> None:
    """Loading, warming up, sampling and further processes together end by the deadline."""
    clock = Clock()
    found = measured(clock, SlowRunner(clock, latency_s), deadline_s=10.0)
    assert clock.now_s <= 10.0
    assert found.samples
    assert found.latency_ms > 0


def test_pages_are_not_evicted_where_there_is_no_time_to_warm_up_again() -> None:
    """A slow model is measured with the pages that loading left, and the context says so."""
    clock = Clock()
    assert measured(clock, SlowRunner(clock, 3.0), deadline_s=10.0).context["as_loaded"] is True
    assert measured(clock, SlowRunner(clock, 0.1), deadline_s=30.0).context["as_loaded"] is False


def test_samples_are_kept_if_an_inference_hangs() -> None:
    """If an inference never ends, its process is ended soon after the deadline, and the samples before it remain."""
    clock = Clock()
    found = measured(clock, SlowRunner(clock, *[0.5] * 9, 1e6), deadline_s=10.0)
    assert len(found.samples) >= 3
    assert found.stopped_because == "ended"
    assert clock.now_s == pytest.approx(10.0 + _GRACE_S)
    assert found.live_bytes == 3


@pytest.mark.parametrize(
    ("loading_s", "words"), [(100.0, "while loading the model"), (1.0, "while running the first inference")]
)
def test_without_any_inference_the_error_says_what_took_so_long(loading_s: float, words: str) -> None:
    """If not even one inference ended, the error names the deadline, the step and the remedy."""
    clock = Clock()
    with pytest.raises(EnclaveDeadline, match=rf"deadline of 10 s, which passed {words}.*give a longer deadline"):
        measured(clock, SlowRunner(clock, 1e6, loading_s=loading_s), deadline_s=10.0)
    assert clock.now_s == pytest.approx(10.0 + _GRACE_S)


def test_no_process_is_started_that_there_is_no_time_for() -> None:
    """Another process is started only if the last one took less than what is left, and may not live much longer."""
    clock = Clock()
    runner = SlowRunner(clock, 1.0)
    found = measured(clock, runner, deadline_s=10.0)
    assert (len(runner.jobs), found.processes) == (1, 1)
    assert runner.jobs[0].deadline_s == 10.0 + _GRACE_S


@pytest.mark.parametrize(("latency_s", "equal"), [(0.5, True), (12.0, None)])
def test_time_is_kept_for_comparing_outputs(
    monkeypatch: pytest.MonkeyPatch, latency_s: float, equal: bool | None
) -> None:
    """Sampling ends early enough for one more inference, whose outputs are compared; a slow model goes without."""
    monkeypatch.setattr("sectum.measure.latency._native_digest", lambda _job, _time_left: "0" * 64)
    clock = Clock()
    runner = SlowRunner(clock, latency_s)
    found = measure(Model(), runner, epc_bytes=EPC_BYTES, deadline_s=10.0, uncertainty_bound=-1, clock=clock)
    assert found.stopped_because == "deadline"
    assert found.outputs_equal_native is equal


def test_progress_is_shown() -> None:
    """Whoever waits hears what is done, and which share of the deadline has passed."""
    clock, told = Clock(), []
    measured(clock, SlowRunner(clock, 1.0), deadline_s=10.0, progress=lambda *step: told.append(step))
    assert told[0] == ("loading the model, process 1, in slow", 0.0)
    assert any("sample" in what for what, _ in told)
    assert [share for _, share in told] == sorted(share for _, share in told)
    assert told[-1][1] <= 1.0
