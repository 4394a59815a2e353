"""A measured cell says what was measured, how, and what HETEE's is."""

from __future__ import annotations

import json

import pytest

from hetee_bench_cells import cell

FIELDS = {
    "task": str,
    "network": str,
    "batch": int,
    "preprocess": str,
    "compute": str,
    "throughput_overhead_pct": float,
    "latency_overhead_pct": float,
    "added_ms_per_image": float,
    "over_baseline_pct": float,
    "interval_95": dict,
    "breakdown_ms": dict,
    "baseline": dict,
    "images_per_s": float,
    "hetee": dict,
    "samples": dict,
}


def test_overheads_follow_from_the_samples() -> None:
    """Each overhead of known samples is what its definition gives."""
    found = cell()
    assert found.throughput_overhead_pct.value == pytest.approx(25)  # 70 / 56 - 1
    assert found.latency_overhead_pct.value == pytest.approx(100 * 4.05 / 38)  # medians
    assert found.added_ms_per_image.value == pytest.approx(4.05 / 4)
    assert found.over_baseline_pct.value == pytest.approx(5, abs=0.03)  # 42 / 40 - 1


def test_the_json_has_its_fields() -> None:
    """Programs find every field with its type, and finite numbers only."""
    shown = cell().json()
    assert {name: type(value) for name, value in shown.items()} == FIELDS
    assert (shown["preprocess"], shown["compute"]) == ("paced", "paced")
    assert list(shown["breakdown_ms"]) == ["preprocess", "compute", "encryption", "transfer"]
    assert set(shown["interval_95"]) == {name for name in FIELDS if name.endswith(("_pct", "_image"))}
    assert len(shown["samples"]["latency_ms"]["service"]["total"]) == 4
    json.dumps(shown, allow_nan=False)


def test_the_json_agrees_with_itself() -> None:
    """The latency overhead of a cell is that of its breakdown."""
    shown = cell().json()
    steps = shown["breakdown_ms"]
    overhead = 100 * (steps["encryption"] + steps["transfer"]) / (steps["preprocess"] + steps["compute"])
    assert shown["latency_overhead_pct"] == pytest.approx(overhead, abs=1e-3)
    assert shown["added_ms_per_image"] == pytest.approx((steps["encryption"] + steps["transfer"]) / 4, abs=1e-3)


def test_hetee_s_numbers_stand_beside_ours() -> None:
    """Each cell carries the published numbers of its own network and batch."""
    theirs = cell("GoogLeNet", 64).json()["hetee"]
    assert theirs["throughput_overhead_pct"] == 129.03
    assert theirs["added_ms_per_image"] == pytest.approx(264 / 64, abs=1e-4)
    assert cell("VGG16", 4).json()["hetee"]["latency_overhead_pct"] == 37.01
