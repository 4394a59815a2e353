"""The discipline of a latency: never a time alone, always a ratio to the reference kernel around it.

A shared machine's speed moves by 20 to 40 %, within milliseconds (a neighbour on the other hardware thread of the
core) and over minutes. Over fourteen models in eight passes, two medians of wall times agree within 10 % for 63 %
of the pairs; two ratios for 99 %.

Three disturbances, three answers:

- *Speed* that moves slows inference and reference alike: the ratio takes it out. An inference of 100 ms is the mean
  over many fast and slow milliseconds, so means are compared, not medians, and a reference that goes with a long
  inference is run for longer.
- *A burst* that begins or ends within a sample makes its two references disagree: the sample is flagged, kept
  in the raw data, and left out of the estimate while enough others remain. So are the most extreme tenths.
- *Taking turns*: a process on the same CPU, or another machine on the same host, stretches a long inference, but
  not a reference that fits between two turns. With one thread, time is counted while the thread has a CPU, and
  only then. With several, the slowest thread decides and what it waited for is not known: samples that
  waited for over a tenth of their time are flagged.

Where most samples are flagged, the calmer half of them is used.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from sectum.enclave.runner import Sample

REFERENCES_DISAGREE = 1.6
"""Ratio of the two references from which on a sample is flagged."""
WAITED_SHARE = 0.1
"""With several threads, their waiting for a CPU as a share of the wall time from which on a sample is flagged."""
TRIMMED_SHARE = 0.1
"""Of the samples, by their ratio: how many are left out at either end."""
_FEWEST = 5  # samples that an estimate from a disturbed run takes at least, if there are so many
_STUDENT_975 = (math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # by degrees of freedom
_NORMAL_975 = 1.96


@dataclass(frozen=True, slots=True)
class Reading:
    """A sample as a ratio.

    Attributes:
        ratio: latency over the reference kernel's time.
        disturbed: why the sample is suspect; empty if it is not.
        disturbance: how much, on a scale on which samples over 1 are suspect.
    """

    ratio: float
    disturbed: str
    disturbance: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the samples say together.

    Attributes:
        ratio: latency over reference time.
        uncertainty: half-width of the 95 % interval of the ratio, relative to it; infinite for one sample.
        used: for each sample, whether it took part.
    """

    ratio: float
    uncertainty: float
    used: tuple[bool, ...]


def read_sample(sample: Sample, threads: int) -> Reading:
    """Turn a sample into a ratio and say whether it is suspect."""
    low, high = sorted((sample.reference_before_ns, sample.reference_after_ns))
    disagreement = (high / low - 1) / (REFERENCES_DISAGREE - 1)
    waiting = sample.wait_ns / sample.wall_ns / WAITED_SHARE if threads > 1 else 0.0
    disturbed = ""
    if disagreement > 1:
        disturbed = "the references before and after disagree"
    elif waiting > 1:
        disturbed = "waited for a CPU"
    return Reading(sample.latency_ns / sample.reference_ns, disturbed, max(disagreement, waiting))


def ratio_of_means(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Mean latency over mean reference time, and the half-width of its 95 % interval.

    The most extreme tenths by ratio are left out of the means. The interval is Student's for a trimmed mean (Tukey
    and McLaughlin 1963), applied to what each latency differs from the ratio times its reference; infinite for one.

    Args:
        pairs: latency and reference time of each sample, in one unit.

    Raises:
        ValueError: no samples.
    """
    n = len(pairs)
    if n == 0:
        raise ValueError("no samples")
    ordered = sorted(pairs, key=lambda pair: pair[0] / pair[1])
    cut = int(TRIMMED_SHARE * n)
    kept = ordered[cut : n - cut]
    latency, reference = (statistics.fmean(column) for column in zip(*kept, strict=True))
    ratio = latency / reference
    if n == 1:
        return ratio, math.inf
    residuals = [a - ratio * b for a, b in kept]
    winsorised = [min(residuals)] * cut + residuals + [max(residuals)] * cut
    error = statistics.stdev(winsorised) / (len(kept) / n * math.sqrt(n)) / reference
    freedom = len(kept) - 1
    return ratio, (_STUDENT_975[freedom] if freedom < len(_STUDENT_975) else _NORMAL_975) * error


def estimate(samples: Sequence[Sample], *, threads: int, period: int = 1) -> Estimate:
    """Ratio of means; where page faults repeat with a period, the mean over its phases.

    Args:
        samples: consecutive inferences.
        threads: threads of the run.
        period: of the page faults, in inferences.

    Raises:
        ValueError: no samples.
    """
    if not samples:
        raise ValueError("no samples to estimate from")
    period = max(1, min(period, len(samples)))
    readings = [read_sample(sample, threads) for sample in samples]
    used = [not reading.disturbed for reading in readings]
    middles, halves = [], []
    for phase in range(period):
        indices = range(phase, len(samples), period)
        chosen = [i for i in indices if used[i]]
        if 2 * len(chosen) < len(indices):  # disturbed for most of the time: the calmer half is the best there is
            calm_first = sorted(indices, key=lambda i: readings[i].disturbance)
            chosen = calm_first[: max(_FEWEST, -(-len(calm_first) // 2))]
            for i in chosen:
                used[i] = True
        middle, half = ratio_of_means([(samples[i].latency_ns, samples[i].reference_ns) for i in chosen])
        middles.append(middle)
        halves.append(half)
    ratio = statistics.fmean(middles)
    uncertainty = math.hypot(*halves) / period / ratio if ratio > 0 else math.inf
    return Estimate(ratio, uncertainty, tuple(used))


def typical_reference_ms(samples: Sequence[Sample]) -> float:
    """Mean reference time over samples, in milliseconds: the machine's speed while they ran.

    Raises:
        ValueError: no samples.
    """
    if not samples:
        raise ValueError("no samples, so no reference time")
    return statistics.fmean(t for s in samples for t in (s.reference_before_ns, s.reference_after_ns)) / 1e6
