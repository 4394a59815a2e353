"""The discipline of a latency: never a wall time alone, always a ratio to the reference kernel around it.

A shared machine's speed drifts by 20 to 40 % within minutes. Over fourteen models in eight passes, two
medians of wall times agree within 10 % for 63 % of the pairs; two medians of ratios for 99 %.

Three disturbances, three answers:

- *Drift* of the machine's speed slows inference and reference alike: the ratio takes it out.
- *A burst* that begins or ends within a sample makes its two references disagree: the sample is flagged, kept
  in the raw data, and left out of the estimate while enough others remain.
- *Taking turns*: a process on the same CPU stretches a long inference, but not a reference that fits between
  two turns. With one thread, the operating system's own account of that waiting is subtracted where the
  sample is taken. With several, the slowest thread decides and what it waited for is not known: samples that
  waited for over a tenth of their time are flagged.

Where most samples are flagged, the calmer half of them is used.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from sectum.enclave.runner import Sample

REFERENCES_DISAGREE = 1.25
"""Ratio of the two references from which on a sample is flagged."""
WAITED_SHARE = 0.1
"""With several threads, their waiting for a CPU as a share of the wall time from which on a sample is flagged."""
_CONFIDENCE = 0.95
_FEWEST = 5  # samples that an estimate from a disturbed run takes at least, if there are so many
_STUDENT_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}  # quantiles of Student's t, by degrees of freedom
_MEDIAN_EFFICIENCY = math.sqrt(math.pi / 2)  # a median's standard error over a mean's, for normal noise


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


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % confidence interval of the median.

    From six values on by order statistics, which supposes nothing about their distribution. Fewer cannot give
    95 % that way, and Student's t stands in.

    Raises:
        ValueError: no values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("no values")
    if n == 1:
        return -math.inf, math.inf
    ordered = sorted(values)
    if n < 6:
        middle = statistics.median(ordered)
        half = _STUDENT_975[n - 1] * _MEDIAN_EFFICIENCY * statistics.stdev(ordered) / math.sqrt(n)
        return middle - half, middle + half
    # The k-th smallest and k-th largest enclose the median unless fewer than k values fall on one side of it.
    outside, k = 0.0, 0
    while (outside := outside + math.comb(n, k) * 0.5**n) <= (1 - _CONFIDENCE) / 2:
        k += 1
    return ordered[k - 1], ordered[n - k]


def estimate(samples: Sequence[Sample], *, threads: int, period: int = 1) -> Estimate:
    """Median of ratios; where page faults repeat with a period, the mean of the medians of its phases.

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
        ratios = [readings[i].ratio for i in chosen]
        low, high = median_interval(ratios)
        middles.append(statistics.median(ratios))
        halves.append((high - low) / 2)
    ratio = statistics.fmean(middles)
    uncertainty = math.hypot(*halves) / period / ratio if ratio > 0 else math.inf
    return Estimate(ratio, uncertainty, tuple(used))


def typical_reference_ms(samples: Sequence[Sample]) -> float:
    """Median reference time over samples, in milliseconds: the machine's typical speed while they ran.

    Raises:
        ValueError: no samples.
    """
    if not samples:
        raise ValueError("no samples, so no reference time")
    return statistics.median(t for s in samples for t in (s.reference_before_ns, s.reference_after_ns)) / 1e6
