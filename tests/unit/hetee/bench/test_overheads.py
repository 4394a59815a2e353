"""Overheads are computed as HETEE's are, and HETEE's are those of the paper."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from sectum.hetee.bench.overheads import LatencyBreakdown, estimate, throughput_overhead_pct
from sectum.hetee.bench.published import BATCHES, networks, published, relative_throughput
from sectum.hetee.worker.accelerators.published import pace

NETWORKS = ("VGG16", "GoogLeNet", "ResNet50", "ResNet101", "ResNet152")
READ_OFF_MS = 4  # how exactly the bars of figure 8a could be read


def mean(field: str, *, network: str | None = None, batch: int | None = None) -> float:
    """Mean of one of HETEE's numbers over the cells of a network or of a batch size."""
    cells = [(n, b) for n in networks() for b in BATCHES if network in (None, n) and batch in (None, b)]
    return statistics.mean(getattr(published(*cell), field) for cell in cells)


def test_the_cells_are_those_of_the_figures() -> None:
    """Five networks and five batch sizes, each with all of its numbers."""
    assert networks() == NETWORKS
    cells = [published(network, batch) for network in networks() for batch in BATCHES]
    assert len(cells) == 25
    assert all(value > 0 for cell in cells for value in vars(cell).values())


@pytest.mark.parametrize(
    ("field", "where", "said"),
    [
        ("throughput_overhead_pct", {"batch": 8}, 6.95),
        ("throughput_overhead_pct", {"network": "ResNet152"}, 1.96),
        ("latency_overhead_pct", {"batch": 8}, 42.96),
        ("latency_overhead_pct", {"network": "ResNet152"}, 34.51),
    ],
)
def test_hetee_s_averages_are_those_of_its_text(field: str, where: dict[str, object], said: float) -> None:
    """Averages of the stored cells are the averages that the paper's text gives, to 0.05 points."""
    assert mean(field, **where) == pytest.approx(said, abs=0.05)  # type: ignore[arg-type]


def test_hetee_s_extremes_are_stored() -> None:
    """The largest overheads are GoogLeNet's with 64 images, as the paper prints them."""
    worst = published("GoogLeNet", 64)
    assert (worst.throughput_overhead_pct, worst.latency_overhead_pct) == (129.03, 72.19)
    assert published("ResNet152", 32).throughput_overhead_pct == 2.17


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("batch", [4, 8, 16])
def test_our_throughput_overhead_is_the_paper_s(network: str, batch: int) -> None:
    """Our formula turns table III (HETEE as a share of its baseline, two digits) into figure 7a."""
    share = relative_throughput(network, batch)
    assert throughput_overhead_pct(1.0, share + 0.02) <= published(network, batch).throughput_overhead_pct
    assert throughput_overhead_pct(1.0, share - 0.02) >= published(network, batch).throughput_overhead_pct


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("batch", BATCHES)
def test_our_latency_overhead_is_the_paper_s(network: str, batch: int) -> None:
    """Our formula turns the bars of figure 8a into their printed labels, as exactly as the bars can be read."""
    cell = published(network, batch)
    added, worked = cell.encryption_and_transfer_ms, cell.preprocess_ms + cell.compute_ms
    least = LatencyBreakdown(worked + READ_OFF_MS, 0, 0, added - 2 * READ_OFF_MS).latency_overhead_pct
    most = LatencyBreakdown(worked - READ_OFF_MS, 0, 0, added + 2 * READ_OFF_MS).latency_overhead_pct
    assert least <= cell.latency_overhead_pct <= most


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("batch", BATCHES)
def test_what_is_paced_is_what_is_compared_with(network: str, batch: int) -> None:
    """Paced accelerators wait for the times of the very bars that are shown beside ours."""
    times, cell = pace(network, batch), published(network, batch)
    assert (times.preprocess_us, times.compute_us) == (cell.preprocess_ms * 1000, cell.compute_ms * 1000)


def test_a_breakdown_hides_nothing() -> None:
    """Its steps add up to what the client waited, also where sealing was hidden or clocks disagree."""
    for total_ms, encryption_ms in ((58.0, 2.0), (58.0, 30.0), (37.0, 2.0)):
        split = LatencyBreakdown.of(total_ms, 24.0, 14.0, encryption_ms)
        assert split.total_ms == pytest.approx(total_ms)
        assert 0 <= split.encryption_ms <= encryption_ms
        assert sum(split.json().values()) == pytest.approx(total_ms)
    assert LatencyBreakdown.of(58.0, 24.0, 14.0, 2.0).latency_overhead_pct == pytest.approx(100 * 20 / 38)


def test_no_overhead_is_zero() -> None:
    """A service as fast as its baseline has none; one at half the speed has 100 %."""
    assert throughput_overhead_pct(25.0, 25.0) == 0
    assert throughput_overhead_pct(25.0, 12.5) == pytest.approx(100)


def test_an_interval_holds_its_value_and_shows_noise() -> None:
    """Equal samples give an empty interval, scattered ones an interval around the value."""
    sure = estimate(([3.0] * 20,), lambda m: m[0])
    assert sure == (3.0, 3.0, 3.0)
    draw = np.random.default_rng(1)
    found = estimate((list(draw.normal(10, 2, 40)),), lambda m: m[0])
    assert found.low < found.value < found.high
    assert found.half_width == pytest.approx((found.high - found.low) / 2)
    assert math.isclose(found.value, 10, rel_tol=0.2)


def test_pairs_are_kept_together() -> None:
    """Noise that both of a pair have does not count against their ratio."""
    noise = np.random.default_rng(2).uniform(1, 10, 30)
    together = estimate((list(noise), list(2 * noise)), lambda m: m[1] / m[0])
    assert together == pytest.approx((2.0, 2.0, 2.0))
