"""When sampling starts and when it stops, on scripted sessions."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator

import pytest

from sectum.enclave.runners.runner import Sample
from sectum.errors import EnclaveDeadline
from sectum.measure.sampling import (
    MAX_WARM_UP,
    MIN_SAMPLES,
    MIN_SAMPLING_S,
    StoppedBecause,
    settled_period,
    take_samples,
)

REFERENCE_NS = 2_500_000


class FakeSession:
    """Gives the samples of a script, and has a clock of its own."""

    def __init__(self, latencies_ms: Iterable[float], loads: Iterable[int] = itertools.repeat(0)) -> None:
        self._script: Iterator[tuple[float, int]] = zip(latencies_ms, loads, strict=False)
        self.now_s = 0.0
        self.calls: list[int] = []

    def sample(self, n: int) -> list[Sample]:
        """Play the next ``n`` of the script."""
        self.calls.append(n)
        made = []
        for latency_ms, loads in itertools.islice(self._script, n):
            self.now_s += latency_ms / 1e3 + REFERENCE_NS / 1e9
            latency_ns = int(latency_ms * 1e6)
            made.append(Sample(latency_ns, latency_ns, *[REFERENCE_NS] * 4, loads=loads, evictions=loads))
        return made

    def clock(self) -> float:
        """Give the script's time."""
        return self.now_s


def paged(*loads: int) -> list[Sample]:
    return [Sample(10, 10, 10, 10, 10, 10, loads=n, evictions=n) for n in loads]


def test_stops_when_precise() -> None:
    """Sampling of a quiet model stops at the least number of samples over the least time."""
    session = FakeSession(itertools.repeat(10.0))
    found = take_samples(session, threads=1, share=0, time_s=60, clock=session.clock)
    assert found.stopped_because is StoppedBecause.PRECISE
    assert found.estimate.uncertainty == 0
    assert len(found.samples) >= MIN_SAMPLES
    assert MIN_SAMPLING_S <= session.now_s < 3 * MIN_SAMPLING_S


def test_noise_takes_more_samples() -> None:
    """A noisy model is sampled longer than a quiet one, until its uncertainty is within the bound."""
    rng = random.Random(0)
    session = FakeSession(10.0 * (1 + abs(rng.gauss(0, 0.12))) for _ in itertools.count())
    found = take_samples(session, threads=1, share=0, time_s=600, clock=session.clock)
    assert found.stopped_because is StoppedBecause.PRECISE
    assert len(found.samples) > 2 * MIN_SAMPLES
    assert found.estimate.uncertainty <= 0.02


def test_deadline_is_kept() -> None:
    """Sampling never starts an inference that would end after the time allowed, and says why it stopped."""
    rng = random.Random(0)
    session = FakeSession(400.0 * (1 + abs(rng.gauss(0, 0.05))) for _ in itertools.count())
    found = take_samples(session, threads=1, share=0, time_s=4.0, uncertainty_bound=1e-9, clock=session.clock)
    assert found.stopped_because is StoppedBecause.DEADLINE
    assert 3.0 < session.now_s < 4.5


def test_a_single_slow_inference_still_gives_a_sample() -> None:
    """A model slower than the deadline gives one warm-up and one sample."""
    session = FakeSession(itertools.repeat(5000.0))
    found = take_samples(session, threads=1, share=0, time_s=1.0, clock=session.clock)
    assert len(found.warm_up) == 1
    assert len(found.samples) == 1
    assert found.stopped_because is StoppedBecause.DEADLINE
    assert not found.settled


@pytest.mark.parametrize("runs", [1, 3, 25])
def test_runs_are_exact(runs: int) -> None:
    """A given number of runs is kept exactly, whatever the uncertainty."""
    session = FakeSession(itertools.repeat(1.0))
    found = take_samples(session, threads=1, share=0, time_s=60, runs=runs, clock=session.clock)
    assert len(found.samples) == runs
    assert found.stopped_because is StoppedBecause.RUNS


def test_warms_up_until_faults_settle() -> None:
    """Sampling starts only when page counts repeat."""
    session = FakeSession(itertools.repeat(10.0), [9000, 7000, 5000, 4000, 3000, *[2000] * 10_000])
    found = take_samples(session, threads=1, share=0, time_s=60, clock=session.clock)
    assert found.settled
    assert found.period == 1
    assert {s.loads for s in found.samples} == {2000}


def test_counts_that_never_settle_are_reported() -> None:
    """The warm-up is bounded, and the result says that counts did not settle."""
    rng = random.Random(0)
    session = FakeSession(itertools.repeat(10.0), (rng.randrange(1000, 90_000) for _ in itertools.count()))
    found = take_samples(session, threads=1, share=0, time_s=60, clock=session.clock)
    assert not found.settled
    assert len(found.warm_up) == MAX_WARM_UP


@pytest.mark.parametrize(
    ("loads", "period"),
    [
        ((5, 5, 5), 1),
        ((100, 5, 5, 5), 1),
        ((8936, 15881, 8936, 15881), 2),
        ((1000, 2000, 3000, 1000, 2000, 3000), 3),
        ((8974, 8978, 8970), 1),  # a batch of pages more or less is the same
        ((5, 5), 0),
        ((9000, 7000, 5000), 0),
        ((), 0),
    ],
)
def test_period_is_found(loads: tuple[int, ...], period: int) -> None:
    """The smallest period of page counts is found, within the tolerance, from enough inferences."""
    assert settled_period(paged(*loads)) == period


class EndedSession(FakeSession):
    """A session whose process is ended at its deadline, during the inference with the given number."""

    def __init__(self, latencies_ms: Iterable[float], ended_at: int) -> None:
        super().__init__(latencies_ms)
        self._left = ended_at - 1

    def sample(self, n: int) -> list[Sample]:
        """Fail where inferences reach the number."""
        if n > self._left:
            raise EnclaveDeadline("ended")
        self._left -= n
        return super().sample(n)


def test_under_a_hard_limit_the_last_warm_up_is_the_sample() -> None:
    """A model slower than the deadline is run once, and that inference is the result."""
    session = FakeSession(itertools.repeat(5000.0))
    found = take_samples(session, threads=1, share=0, time_s=1.0, hard_limit=True, clock=session.clock)
    assert (len(found.warm_up), len(found.samples)) == (0, 1)
    assert session.calls == [1]
    assert found.stopped_because is StoppedBecause.DEADLINE
    assert not found.settled


def test_under_a_hard_limit_an_earlier_inference_may_be_the_sample() -> None:
    """If inferences before the warm-up left no time, the last of them is the result."""
    session = FakeSession(itertools.repeat(5000.0))
    earlier = session.sample(1)
    found = take_samples(session, threads=1, share=0, time_s=1.0, hard_limit=True, earlier=earlier, clock=session.clock)
    assert list(found.samples) == earlier
    assert session.calls == [1]


@pytest.mark.parametrize("latency_ms", [400.0, 900.0, 2600.0])
def test_a_hard_limit_is_kept(latency_ms: float) -> None:
    """After the first inference, none is started that would end after the time allowed."""
    session = FakeSession(itertools.repeat(latency_ms))
    take_samples(session, threads=1, share=0, time_s=4.0, uncertainty_bound=-1, hard_limit=True, clock=session.clock)
    assert session.now_s <= 4.0


@pytest.mark.parametrize(("ended_at", "warm_up", "samples"), [(2, 0, 1), (3, 1, 1), (5, 3, 1), (6, 3, 2)])
def test_what_was_sampled_before_the_process_ended_is_kept(ended_at: int, warm_up: int, samples: int) -> None:
    """If the process is ended at its deadline, the inferences until then are the result."""
    session = EndedSession(itertools.repeat(400.0), ended_at)
    found = take_samples(session, threads=1, share=0, time_s=60, hard_limit=True, clock=session.clock)
    assert (len(found.warm_up), len(found.samples)) == (warm_up, samples)
    assert found.stopped_because is StoppedBecause.ENDED


@pytest.mark.parametrize(("ended_at", "hard_limit"), [(1, True), (2, False)])
def test_without_an_inference_or_a_hard_limit_the_deadline_is_an_error(ended_at: int, hard_limit: bool) -> None:
    """Without a single inference there is no result, and a caller that sets no hard limit hears of the deadline."""
    session = EndedSession(itertools.repeat(400.0), ended_at)
    with pytest.raises(EnclaveDeadline):
        take_samples(session, threads=1, share=0, time_s=60, hard_limit=hard_limit, clock=session.clock)


def test_progress_tells_what_is_done() -> None:
    """Whoever waits hears of each inference of the warm-up, and of the samples."""
    session, told = FakeSession(itertools.repeat(10.0)), []
    take_samples(session, threads=1, share=0, time_s=60, runs=12, progress=told.append, clock=session.clock)
    assert told[:3] == [f"warming up, inference {n}" for n in (1, 2, 3)]
    assert told[3:] == ["sample 1", "sample 11"]
