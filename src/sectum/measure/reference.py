"""Latency as a ratio to the reference kernels that run before and after each inference.

A shared machine's speed changes by 20 to 40 %, within milliseconds (a neighbour on the core's other hardware thread)
and over minutes. *Measured* over fourteen models in eight passes: two medians of wall times agree within 10 % for 63 %
of the pairs, two ratios for 99 %.

There are two reference kernels, because other load slows dense arithmetic less than everything else. Names and stored
fields call the GEMM kernel ``products`` and the reduction kernel ``sums``. A latency is compared with a mixture of
both: the graph tells how much of the time is dense arithmetic, the pager how much is paging.

Three disturbances are handled:

- *The speed changes.* Inference and reference slow down alike, so the ratio cancels it. An inference of 100 ms averages
  many fast and slow milliseconds; therefore means are compared, not medians, and the references of a long inference run
  longer.
- *A burst of other load* begins or ends within a sample. Its two references then disagree. The sample is flagged, kept
  in the raw data, and left out of the estimate while enough others remain. So are the most extreme tenths.
- *The thread loses its CPU* to another process or another virtual machine. This stretches a long inference, but not a
  reference that fits between two such moments. With one thread, CPU time is measured. With several, the slowest thread
  decides and how long it waited is not known: samples that waited for over a tenth of their time are flagged.

If most samples are flagged, the less disturbed half of them is used.
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
"""A sample is flagged if its two references differ by more than this factor."""
WAITED_SHARE = 0.1
"""With several threads, a sample is flagged if they wait for a CPU for more than this share of its wall time."""
TRIMMED_SHARE = 0.1
"""Share of the samples that is left out at each end, by their ratio."""
_DENSE_INPUT_CHANNELS = 4  # of a group; with fewer, each value is used too seldom
_DENSE_FLOPS_PER_S, _OTHER_FLOPS_PER_S, _OTHER_BYTES_PER_S = 75e9, 12e9, 10e9
_PAGING_OVER_HANDLER = 1.25  # the handler's own time excludes entering and leaving the signal handler
_FEWEST = 5  # least number of samples in an estimate from a disturbed run, if there are as many
_STUDENT_975 = (math.inf, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # by degrees of freedom
_NORMAL_975 = 1.96


@dataclass(frozen=True, slots=True)
class Reading:
    """A sample as a ratio.

    Attributes:
        ratio: latency over the time of the reference kernels.
        disturbed: why the sample is flagged; empty if it is not.
        disturbance: how much it is disturbed; samples over 1 are flagged.
    """

    ratio: float
    disturbed: str
    disturbance: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """The ratio that several samples give.

    Attributes:
        ratio: latency over reference time.
        uncertainty: half-width of the 95 % interval of the ratio, relative to it; infinite for one sample.
        used: for each sample, whether it was used.
    """

    ratio: float
    uncertainty: float
    used: tuple[bool, ...]


def sums_share(graph: OptimizedGraph) -> float:
    """Estimate the weight of the reduction kernel in a network's reference, from 0 to 1.

    Dense arithmetic is compared with the GEMM kernel, all other work with the reduction kernel. The times of both are
    estimated with rates of a processor of 2021. An error of a fifth changes a latency by a fiftieth at most.
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
    """Tell whether a convolution or GEMM uses each value many times; a depthwise convolution does not."""
    weight = graph.tensors[op.inputs[1]].shape if len(op.inputs) > 1 and op.inputs[1] else ()
    return len(weight) < 4 or weight[1] >= _DENSE_INPUT_CHANNELS


def compared_with(sample: Sample, share: float) -> float:
    """Give the reference time, in nanoseconds, that an inference is compared with.

    Args:
        sample: the inference; its paging is compared with the reduction kernel.
        share: `sums_share` of the network.
    """
    return sample.reference_ns(share + (1 - share) * paging_share(sample))


def paging_share(sample: Sample) -> float:
    """Give the share of paging in an inference's time."""
    return min(1.0, _PAGING_OVER_HANDLER * sample.handler_ns / sample.wall_ns)


def read_sample(sample: Sample, threads: int, share: float) -> Reading:
    """Turn a sample into a ratio, and flag it if it is disturbed."""
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
    """Give mean latency over mean reference time, and the half-width of its 95 % interval.

    The most extreme tenths by ratio are left out of the means. The interval is Student's for a trimmed mean (Tukey and
    McLaughlin 1963), of the differences between each latency and the ratio times its reference; infinite for one.

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
    """Estimate the ratio of means; if page faults repeat with a period, the mean over its phases.

    Args:
        samples: consecutive inferences.
        threads: threads of the run.
        share: `sums_share` of the network.
        period: period of the page faults, in inferences.

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
        if 2 * len(chosen) < len(indices):  # mostly disturbed: use the less disturbed half
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


def combine(estimates: Sequence[Estimate]) -> Estimate:
    """Average the estimates of several processes; their differences add to the uncertainty.

    Raises:
        ValueError: no estimates.
    """
    if not estimates:
        raise ValueError("no estimates to average")
    n = len(estimates)
    ratio = statistics.fmean(one.ratio for one in estimates)
    within = math.hypot(*(one.ratio * one.uncertainty for one in estimates)) / n
    between = _NORMAL_975 * statistics.stdev([one.ratio for one in estimates]) / math.sqrt(n) if n > 1 else 0.0
    used = tuple(flag for one in estimates for flag in one.used)
    return Estimate(ratio, math.hypot(within, between) / ratio if ratio > 0 else math.inf, used)


@dataclass(frozen=True, slots=True)
class References:
    """Typical times of the reference kernels on a machine. They turn ratios into its milliseconds.

    Attributes:
        products_ms: time of the GEMM kernel.
        sums_ms: time of the reduction kernel.
    """

    products_ms: float
    sums_ms: float

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> References:
        """Give the mean times around samples: the machine's speed while they ran.

        Raises:
            ValueError: no samples.
        """
        if not samples:
            raise ValueError("no samples, so no reference times")
        products = statistics.fmean(t for s in samples for t in (s.products_before_ns, s.products_after_ns))
        sums = statistics.fmean(t for s in samples for t in (s.sums_before_ns, s.sums_after_ns))
        return cls(products / 1e6, sums / 1e6)

    def mixed_ms(self, share: float) -> float:
        """Give the time to multiply a ratio by, if the reduction kernel has this weight in its reference."""
        return self.products_ms + share * (self.sums_ms - self.products_ms)
