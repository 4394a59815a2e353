"""How many inferences to run: warm up until page counts settle, then sample until the estimate is precise."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from sectum.enclave.runners.runner import Sample
from sectum.errors import EnclaveDeadline
from sectum.measure.reference import Estimate, estimate

UNCERTAINTY_BOUND = 0.02
"""Relative half-width of the 95 % interval at which sampling stops."""
MIN_SAMPLES = 10
MIN_SAMPLING_S = 1.0
"""Samples of a fast model are spread over at least this time, so that a burst of noise cannot cover them all."""
MAX_SAMPLES = 400
MIN_WARM_UP, MAX_WARM_UP = 2, 24
WARM_UP_SHARE = 0.4
"""Share of the time allowed that warming up may take."""
MAX_PERIOD = 4
PAGES_TOLERANCE = 16
SHARE_TOLERANCE = 0.01
"""Counts are equal if they differ by at most one reclaim batch, or by this share of all faults."""
MINOR_FAULT_WEIGHT = 0.1
"""A minor fault costs at most a tenth of a load, and the number of minor faults varies more."""
_CHUNK_S = 0.25


class StoppedBecause(StrEnum):
    """Why sampling ended. ENDED: the process was ended at its deadline, during an inference."""

    PRECISE = "precise"
    RUNS = "runs"
    DEADLINE = "deadline"
    SAMPLES = "samples"
    ENDED = "ended"


class Sampler(Protocol):
    """The part of a session that sampling needs."""

    def sample(self, n: int) -> list[Sample]:
        """Run ``n`` inferences."""
        ...


@dataclass(frozen=True, slots=True)
class Sampling:
    """Samples, and how they were taken.

    Attributes:
        warm_up: inferences before the first sample, in order.
        samples: the samples, in order.
        estimate: ratio of latency to reference.
        period: number of inferences after which page counts repeat; 1 if they are constant or do not settle.
        settled: whether page counts had settled before the first sample.
        stopped_because: why sampling ended.
    """

    warm_up: tuple[Sample, ...]
    samples: tuple[Sample, ...]
    estimate: Estimate
    period: int
    settled: bool
    stopped_because: StoppedBecause


def _alike(a: Sample, b: Sample) -> bool:
    allowed = max(PAGES_TOLERANCE, SHARE_TOLERANCE * max(sum(a.paging), sum(b.paging)))
    swapped = (abs(a.loads - b.loads), abs(a.evictions - b.evictions), abs(a.zero_fills - b.zero_fills))
    return max(swapped) <= allowed and MINOR_FAULT_WEIGHT * abs(a.minor_faults - b.minor_faults) <= allowed


def settled_period(samples: Sequence[Sample]) -> int:
    """Find the smallest period with which the page counts of the last inferences repeat; 0 if there is none yet.

    Constant counts must be seen three times, a longer period twice.
    """
    for period in range(1, MAX_PERIOD + 1):
        shown = max(3, 2 * period)
        last = samples[-shown:]
        if len(last) == shown and all(_alike(a, b) for a, b in zip(last, last[period:], strict=False)):
            return period
    return 0


def take_samples(
    session: Sampler,
    *,
    threads: int,
    share: float,
    time_s: float,
    runs: int | None = None,
    uncertainty_bound: float = UNCERTAINTY_BOUND,
    least_s: float = MIN_SAMPLING_S,
    fewest: int = 1,
    enough: int = MIN_SAMPLES,
    hard_limit: bool = False,
    earlier: Sequence[Sample] = (),
    progress: Callable[[str], None] = lambda _what: None,
    clock: Callable[[], float] = time.monotonic,
) -> Sampling:
    """Warm up, then sample.

    Sampling stops when the uncertainty is within its bound, or after ``runs`` samples if ``runs`` is given, or when one
    more inference would take longer than the time allowed. At least one sample is taken.

    Args:
        session: a running model.
        threads: threads of the run.
        share: `sectum.measure.reference.sums_share` of the network.
        time_s: seconds allowed, warm-up included.
        runs: number of samples, whatever their uncertainty.
        uncertainty_bound: relative half-width of the 95 % interval of the ratio.
        least_s: seconds over which samples are spread, however precise they are.
        fewest: number of samples that are taken even if the time is over.
        enough: number of samples from which on their uncertainty may stop sampling.
        hard_limit: keep to the time allowed even if there is no sample yet. The last inference before the first sample
            is the sample then. If the process is ended at its deadline, what was sampled until then is the result.
        earlier: inferences of this session, at least one of which may become the sample under a hard limit.
        progress: called with what is being done.
        clock: seconds, monotonic; for tests.

    Raises:
        EnclaveDeadline: the process was ended at its deadline, without a hard limit or before the first inference.
    """
    begin_s = clock()
    end_s = begin_s + time_s
    warm_up: list[Sample] = []
    samples: list[Sample] = []
    period = 0

    def out_of_time() -> bool:
        """Whether a hard limit leaves no time for another inference, and there is one that can be the sample."""
        done = [*earlier, *warm_up]
        return hard_limit and bool(done) and clock() + _whole_s(done[-1]) > end_s

    def result(stopped: StoppedBecause) -> Sampling:
        before, kept = warm_up, samples
        if not kept:
            *before, last = [*earlier, *warm_up]
            kept = [last]
        found = estimate(kept, threads=threads, share=share, period=max(1, period))
        settled = period > 0 and bool(samples)
        return Sampling(tuple(before), tuple(kept), found, max(1, period), settled, stopped)

    try:
        while not period and len(warm_up) < MAX_WARM_UP:
            spent_s = clock() - begin_s
            if len(warm_up) >= min(MIN_WARM_UP, fewest) and spent_s + spent_s / len(warm_up) > WARM_UP_SHARE * time_s:
                break
            if out_of_time():
                return result(StoppedBecause.DEADLINE)
            progress(f"warming up, inference {len(warm_up) + 1}")
            warm_up += session.sample(1)
            period = settled_period(warm_up)
        if out_of_time():
            return result(StoppedBecause.DEADLINE)
        enough = max(enough, 3 * max(1, period))
        sampling_s = clock()
        each_s = _whole_s(warm_up[-1])
        while True:
            left_s = end_s - clock()
            room = int(min(_CHUNK_S, left_s) / each_s)
            wanted = (runs if runs is not None else MAX_SAMPLES) - len(samples)
            progress(f"sample {len(samples) + 1}")
            samples += session.sample(max(1, min(room, wanted, MIN_SAMPLES)))
            now_s = clock()
            each_s = max(_whole_s(samples[-1]), 1e-9)
            if runs is not None and len(samples) >= runs:
                return result(StoppedBecause.RUNS)
            if runs is None and len(samples) >= enough and now_s - sampling_s >= least_s:
                if result(StoppedBecause.PRECISE).estimate.uncertainty <= uncertainty_bound:
                    return result(StoppedBecause.PRECISE)
                if len(samples) >= MAX_SAMPLES:
                    return result(StoppedBecause.SAMPLES)
            if now_s + each_s > end_s and len(samples) >= fewest:
                return result(StoppedBecause.DEADLINE)
    except EnclaveDeadline:
        if not hard_limit or not (earlier or warm_up or samples):
            raise
        return result(StoppedBecause.ENDED)


def _whole_s(sample: Sample) -> float:
    """Seconds that a sample takes: the inference and one run of both reference kernels."""
    return max(1e-9, (sample.wall_ns + sample.products_after_ns + sample.sums_after_ns) / 1e9)
