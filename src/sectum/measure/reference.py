"""The discipline of a latency: never a time alone, always a ratio to the reference kernels around it.

A shared machine's speed moves by 20 to 40 %, within milliseconds (a neighbour on the other hardware thread of the
core) and over minutes. Over fourteen models in eight passes, two medians of wall times agree within 10 % for 63 %
of the pairs; two ratios for 99 %.

Three disturbances, three answers:

- *Speed* that moves slows inference and reference alike: the ratio takes it out. An inference of 100 ms is the mean
  over many fast and slow milliseconds, so means are compared, not medians, and references that go with a long
  inference are run for longer. Work of two kinds is slowed differently, so there are two kernels, and each
  latency is compared with a mixture of both: how much of it is dense arithmetic says the graph, how much is
  paging says the pager.
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

from sectum.enclave.runners.runner import Sample
from sectum.graph.ir import Operator
from sectum.ort.costs import cost
from sectum.ort.operators import describe
from sectum.ort.optimized import OptimizedGraph

REFERENCES_DISAGREE = 1.6
"""Ratio of the two references from which on a sample is flagged."""
WAITED_SHARE = 0.1
"""With several threads, their waiting for a CPU as a share of the wall time from which on a sample is flagged."""
TRIMMED_SHARE = 0.1
"""Of the samples, by their ratio: how many are left out at either end."""
_DENSE_INPUT_CHANNELS = 4  # of a group: fewer, and each value is used too seldom
_DENSE_FLOPS_PER_S, _OTHER_FLOPS_PER_S, _OTHER_BYTES_PER_S = 75e9, 12e9, 10e9
_PAGING_OVER_HANDLER = 1.25  # the signal's way into the handler and back is not in the handler's own time
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


def sums_share(graph: OptimizedGraph) -> float:
    """How much of a network's time depends on the machine as sums do, not as matrix products: from 0 to 1.

    Dense arithmetic is what the second kind is; all other time, first estimates of both taken from rates that were
    seen on a processor of 2021, is of the first. An error of a fifth shifts a latency by a fiftieth at most.

    Args:
        graph: what the runtime executes.
    """
    dense_s = other_s = 0.0
    for op in graph.operators:
        of = cost(op, graph)
        if describe(op).dense and _is_dense(op, graph):
            dense_s += of.flops / _DENSE_FLOPS_PER_S
        else:
            traffic = of.input_bytes + of.weight_bytes + of.output_bytes
            other_s += of.flops / _OTHER_FLOPS_PER_S + traffic / _OTHER_BYTES_PER_S
    return other_s / (dense_s + other_s) if dense_s + other_s else 0.0


def _is_dense(op: Operator, graph: OptimizedGraph) -> bool:
    """Whether a convolution or product uses what it reads many times: depthwise ones do not."""
    weight = graph.tensors[op.inputs[1]].shape if len(op.inputs) > 1 and op.inputs[1] else ()
    return len(weight) < 4 or weight[1] >= _DENSE_INPUT_CHANNELS


def compared_with(sample: Sample, share: float) -> float:
    """Reference time, in nanoseconds, that an inference is compared with.

    Args:
        sample: the inference; its time in the pager's handler, and in the kernel for it, depends on sums.
        share: `sums_share` of the network.
    """
    return sample.reference_ns(share + (1 - share) * paging_share(sample))


def paging_share(sample: Sample) -> float:
    """How much of an inference's time is paging."""
    return min(1.0, _PAGING_OVER_HANDLER * sample.handler_ns / sample.wall_ns)


def read_sample(sample: Sample, threads: int, share: float) -> Reading:
    """Turn a sample into a ratio and say whether it is suspect."""
    low, high = sorted((sample.products_before_ns, sample.products_after_ns))
    disagreement = (high / low - 1) / (REFERENCES_DISAGREE - 1)
    waiting = sample.wait_ns / sample.wall_ns / WAITED_SHARE if threads > 1 else 0.0
    disturbed = ""
    if disagreement > 1:
        disturbed = "the references before and after disagree"
    elif waiting > 1:
        disturbed = "waited for a CPU"
    return Reading(sample.latency_ns / compared_with(sample, share), disturbed, max(disagreement, waiting))


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


def estimate(samples: Sequence[Sample], *, threads: int, share: float, period: int = 1) -> Estimate:
    """Ratio of means; where page faults repeat with a period, the mean over its phases.

    Args:
        samples: consecutive inferences.
        threads: threads of the run.
        share: `sums_share` of the network.
        period: of the page faults, in inferences.

    Raises:
        ValueError: no samples.
    """
    if not samples:
        raise ValueError("no samples to estimate from")
    period = max(1, min(period, len(samples)))
    readings = [read_sample(sample, threads, share) for sample in samples]
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
        middle, half = ratio_of_means([(samples[i].latency_ns, compared_with(samples[i], share)) for i in chosen])
        middles.append(middle)
        halves.append(half)
    ratio = statistics.fmean(middles)
    uncertainty = math.hypot(*halves) / period / ratio if ratio > 0 else math.inf
    return Estimate(ratio, uncertainty, tuple(used))


def together(estimates: Sequence[Estimate]) -> Estimate:
    """One estimate from those of several processes: their mean; what they differ by counts as uncertainty.

    Raises:
        ValueError: none.
    """
    if not estimates:
        raise ValueError("no estimates to put together")
    n = len(estimates)
    ratio = statistics.fmean(one.ratio for one in estimates)
    within = math.hypot(*(one.ratio * one.uncertainty for one in estimates)) / n
    between = _NORMAL_975 * statistics.stdev([one.ratio for one in estimates]) / math.sqrt(n) if n > 1 else 0.0
    used = tuple(flag for one in estimates for flag in one.used)
    return Estimate(ratio, math.hypot(within, between) / ratio if ratio > 0 else math.inf, used)


@dataclass(frozen=True, slots=True)
class References:
    """Typical times of the reference kernels on a machine: what turns ratios into its milliseconds.

    Attributes:
        products_ms: of the matrix products.
        sums_ms: of the sums.
    """

    products_ms: float
    sums_ms: float

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> References:
        """Mean times around samples: the machine's speed while they ran.

        Raises:
            ValueError: no samples.
        """
        if not samples:
            raise ValueError("no samples, so no reference times")
        products = statistics.fmean(t for s in samples for t in (s.products_before_ns, s.products_after_ns))
        sums = statistics.fmean(t for s in samples for t in (s.sums_before_ns, s.sums_after_ns))
        return cls(products / 1e6, sums / 1e6)

    def mixed_ms(self, share: float) -> float:
        """Time that a ratio is multiplied with, for work of which that share depends on the machine as sums do."""
        return self.products_ms + share * (self.sums_ms - self.products_ms)
