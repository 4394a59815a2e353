"""Measured networks as learning sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset_records import failed, record, run
from sectum.lab.dataset.dataset import DatasetWriter
from sectum.lab.learners.measured import MeasuredNetwork, read, without_repeats


def stored(folder: Path, *records: dict) -> list[MeasuredNetwork]:
    with DatasetWriter(folder, "here", {}) as writer:
        for one in records:
            writer.add(one)
        writer.flush()
    return read(folder)


def test_latencies_are_at_the_typical_speed(tmp_path):
    """A ratio that was taken while the machine was slow becomes the milliseconds of its mean speed."""
    slow = record(1, runs=[run(products_ms=3.0, sums_ms=6.0), run("softepc", 8 << 20, products_ms=3.0, sums_ms=6.0)])
    fast = record(2, runs=[run(products_ms=1.0, sums_ms=2.0), run("softepc", 8 << 20, products_ms=1.0, sums_ms=2.0)])
    for network in stored(tmp_path, slow, fast):
        assert network.native.latency_ms == pytest.approx(2.5 * (2.0 + 0.25 * (4.0 - 2.0)))
        assert network.operator_ms == pytest.approx([0.5 * 2.5, 1.5 * 2.5])


def test_over_commitment_is_more_than_a_thousandth_of_the_working_set(tmp_path):
    """One page of a thousand is chance, two are not."""
    rows = [run("softepc", 8 << 20, loads=loads) for loads in (1.0, 2.0)]
    (network,) = stored(tmp_path, record(1, runs=[run(), *rows]))
    assert [one.over_committed for one in network.runs] == [False, True]


def test_failures_are_left_out_and_repeats_are_known(tmp_path):
    """What could not be measured teaches nothing; what was measured twice is counted once."""
    again = record(1, key="alexnet/1/b1#1")
    networks = stored(tmp_path, record(1), failed(2), again)
    assert [network.is_repeat for network in networks] == [False, True]
    assert [network.key for network in without_repeats(networks)] == ["alexnet/1/b1"]
