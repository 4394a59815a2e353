"""The estimator, on synthetic machines whose speed drifts, changes in bursts, and alternates."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable

import pytest

from optimized_graphs import as_optimized
from sectum import zoo
from sectum.enclave.runners.runner import Sample
from sectum.graph.ir import Graph
from sectum.measure.reference import (
    Estimate,
    References,
    combine,
    estimate,
    ratio_of_means,
    read_sample,
    sums_share,
)
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize

REFERENCE_NS = 2_500_000


def sample(latency_ns: float, before_ns: float = REFERENCE_NS, after_ns: float = REFERENCE_NS, **fields: int) -> Sample:
    values = {"wall_ns": int(latency_ns) + fields.get("wait_ns", 0), **fields}
    return Sample(
        latency_ns=int(latency_ns),
        products_before_ns=int(before_ns),
        products_after_ns=int(after_ns),
        sums_before_ns=int(before_ns),
        sums_after_ns=int(after_ns),
        **values,
    )


def run(
    rng: random.Random, latency_ns: float, n: int, slowness: Callable[[float], float], noise: float = 0.02
) -> list[Sample]:
    """``n`` samples on a machine whose slowness at a time (seconds) is given: 1 is its normal speed."""
    now_s, made = 0.0, []

    def spend(work_ns: float) -> float:
        nonlocal now_s
        took_ns, steps = 0.0, 8
        for _ in range(steps):  # slowness may change within an inference
            part_ns = work_ns / steps * slowness(now_s)
            now_s += part_ns / 1e9
            took_ns += part_ns
        return took_ns * (1 + abs(rng.gauss(0, noise)))

    before = spend(REFERENCE_NS)
    for _ in range(n):
        latency = spend(latency_ns)
        after = spend(REFERENCE_NS)
        made.append(sample(latency, before, after))
        before = after
    return made


def test_drift_cancels() -> None:
    """On a machine that slows down by 40 % over the run the ratio is that of a steady one; wall times are not."""
    rng = random.Random(1)
    drifting = run(rng, 40e6, 40, lambda now_s: 1 + 0.4 * min(1.0, now_s / 1.5))
    ratio = estimate(drifting, threads=1, share=0).ratio
    assert ratio == pytest.approx(16, rel=0.03)
    assert statistics.median(s.latency_ns for s in drifting) > 1.1 * 40e6


def test_bursts_are_flagged_and_outvoted() -> None:
    """Short bursts at a third of the speed change the estimate by under 5 %, and disturbed samples are flagged."""
    rng = random.Random(2)
    bursty = run(rng, 20e6, 60, lambda now_s: 3.0 if now_s % 0.25 < 0.05 else 1.0)
    found = estimate(bursty, threads=1, share=0)
    assert found.ratio == pytest.approx(8, rel=0.05)
    assert not all(found.used)
    flagged = [s for s, used in zip(bursty, found.used, strict=True) if not used]
    assert all(read_sample(s, 1, 0).disturbed for s in flagged)


@pytest.mark.parametrize(("latency_ms", "longest_burst_s"), [(0.5, 0.15), (8, 0.15), (60, 0.15), (700, 0.06)])
def test_a_disturbed_measurement_agrees_with_a_calm_one(latency_ms: float, longest_burst_s: float) -> None:
    """Of pairs of measurements, one calm and one under drift and a burst each second, 97 % agree within 10 %.

    An inference longer than the bursts contains them, and nothing can take out their share of its time.
    """
    agree, pairs = 0, 100
    for seed in range(pairs):
        rng = random.Random(seed)
        speed, phase, length = rng.uniform(1, 1.4), rng.uniform(0, 1), rng.uniform(0.01, longest_burst_s)

        def slowness(now_s: float, speed: float = speed, phase: float = phase, length: float = length) -> float:
            drift = speed * (1 + 0.1 * math.sin(0.3 * now_s + phase))
            return drift * (1.8 if (now_s + phase) % 1.0 < length else 1.0)

        n = 60 if latency_ms < 100 else 14
        calm = estimate(run(rng, latency_ms * 1e6, n, lambda _: 1.0), threads=1, share=0).ratio
        rough = estimate(run(rng, latency_ms * 1e6, n, slowness), threads=1, share=0).ratio
        agree += abs(rough / calm - 1) <= 0.10
    assert agree >= 0.97 * pairs


def test_waiting_flags_only_several_threads() -> None:
    """Waiting for a CPU flags a sample of two threads, not of one, whose time excludes it."""
    waited = sample(10e6, wait_ns=5_000_000)
    assert read_sample(waited, 1, 0).disturbed == ""
    assert read_sample(waited, 2, 0).disturbed == "waited for a CPU"


def test_references_that_disagree_are_flagged() -> None:
    """A sample whose references differ by more than a factor of 1.6 is flagged, in either order."""
    assert read_sample(sample(1e7, 2.5e6, 4.2e6), 1, 0).disturbed
    assert read_sample(sample(1e7, 4.2e6, 2.5e6), 1, 0).disturbed
    assert not read_sample(sample(1e7, 2.5e6, 3.9e6), 1, 0).disturbed


def test_a_mostly_disturbed_run_uses_its_calmer_half() -> None:
    """If most samples are flagged, the less disturbed half is used, not the few that are not flagged."""
    samples = [sample(1e7, wait_ns=n * 10**7) for n in range(9, -1, -1)]
    assert estimate(samples, threads=2, share=0).used == (False,) * 5 + (True,) * 5
    assert estimate(samples[:3], threads=2, share=0).used == (True,) * 3


def test_alternating_faults_are_averaged() -> None:
    """The latency of inferences that alternate between two times is their mean."""
    samples = [sample(1e7 if i % 2 else 2e7) for i in range(21)]
    assert estimate(samples, threads=1, share=0, period=2).ratio == pytest.approx(6.0)
    assert estimate(samples, threads=1, share=0, period=2).uncertainty == pytest.approx(0.0)


def test_one_sample_has_no_certainty() -> None:
    """One sample gives a number whose uncertainty is infinite."""
    found = estimate([sample(1e7)], threads=1, share=0)
    assert found.ratio == pytest.approx(4.0)
    assert found.uncertainty == math.inf


def test_no_samples_are_refused() -> None:
    """An estimate from no samples is refused."""
    with pytest.raises(ValueError, match="no samples"):
        estimate([], threads=1, share=0)
    with pytest.raises(ValueError, match="no samples"):
        References.of([])
    with pytest.raises(ValueError, match="no samples"):
        ratio_of_means([])


@pytest.mark.parametrize("n", [3, 5, 6, 10, 25, 60])
def test_the_interval_covers(n: int) -> None:
    """The 95 % interval holds the true ratio in about 95 % of noisy runs, or more."""
    rng = random.Random(n)
    inside = 0
    for _ in range(1000):
        pairs = [(8 * abs(rng.gauss(1, 0.1)), abs(rng.gauss(1, 0.1))) for _ in range(n)]
        ratio, half = ratio_of_means(pairs)
        inside += abs(ratio - 8) <= half
    assert inside >= 930


def test_a_fast_and_a_slow_state_of_the_machine_cancel() -> None:
    """If the machine is slow every other millisecond, a long inference and short references see both states.

    Inferences of 80 ms hold the mean of the two; medians of the references would hold one of them.
    """
    rng = random.Random(3)
    made = run(rng, 80e6, 40, lambda now_s: 1.3 if rng.random() < 0.6 else 1.0)
    assert estimate(made, threads=1, share=0).ratio == pytest.approx(32, rel=0.03)


def test_typical_reference_is_the_mean_of_both_sides() -> None:
    """The machine's speed in a run is the mean over all reference times."""
    assert References.of([sample(1, 1e6, 2e6), sample(1, 2e6, 3e6)]) == References(2.0, 2.0)


def test_dense_work_is_compared_with_the_gemm_kernel_and_the_rest_with_the_reduction_kernel() -> None:
    """VGG is mostly compared with the GEMM kernel, a depthwise network far more with the reduction kernel."""
    shares = {
        name: sums_share(optimize(zoo.to_graph(zoo.network(name)), Cpu.AVX2))
        for name in ("vgg16", "resnet50", "mobilenet_v2")
    }
    assert shares["vgg16"] < 0.35
    assert shares["resnet50"] < 0.35
    assert shares["mobilenet_v2"] > 0.5
    assert sums_share(as_optimized(Graph("", (), {}, (), (), 17))) == 0


def test_paging_is_compared_with_the_reduction_kernel() -> None:
    """If other load slows reductions by a half and GEMMs by a fifth, a dense network that pages keeps its ratio."""
    dense_ns, paging_ns = 30e6, 60e6

    def measured(products: float, sums: float) -> Sample:
        latency = dense_ns * products + paging_ns * sums
        return Sample(
            *[int(latency)] * 2,
            *[int(REFERENCE_NS * products)] * 2,
            *[int(REFERENCE_NS * sums)] * 2,
            handler_ns=int(paging_ns * sums / 1.25),
        )

    quiet, busy = (estimate([measured(*speed)] * 3, threads=1, share=0).ratio for speed in ((1, 1), (1.2, 1.5)))
    assert quiet == pytest.approx(90e6 / REFERENCE_NS)
    assert busy == pytest.approx(quiet, rel=0.02)  # by products alone it would be 17 % off


def test_processes_that_differ_make_the_estimate_uncertain() -> None:
    """Differences between processes add to the uncertainty; processes that agree add nothing."""
    alike = combine([Estimate(8.0, 0.01, (True,))] * 3)
    apart = combine([Estimate(ratio, 0.01, (True,)) for ratio in (7.2, 8.0, 8.8)])
    assert alike.ratio == apart.ratio == pytest.approx(8.0)
    assert alike.uncertainty == pytest.approx(0.01 / 3**0.5)
    assert apart.uncertainty > 0.1
    assert alike.used == (True, True, True)
