"""What the predictor's design rests on, seen in the stored measurements of the study.

They are those of data/study, or of the folder that SECTUM_STUDY names. Bounds are wider than what a quiet machine
gives, and far from what would be seen if the observation did not hold.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from places import ROOT
from sectum.lab.study.observations import OBSERVATIONS
from sectum.lab.study.points import Study, load

pytest.importorskip("pyarrow", reason="shards are Parquet: install sectum[train]")

FOLDER = Path(os.environ.get("SECTUM_STUDY") or ROOT / "data" / "study")
pytestmark = pytest.mark.skipif(
    not list(FOLDER.glob("*.parquet")), reason=f"{FOLDER.name} holds no measurements: run 'sectum study run' first"
)


@pytest.fixture(scope="module")
def study() -> Study:
    return load(FOLDER)


def observed(study: Study, name: str) -> dict[str, Any]:
    numbers = OBSERVATIONS[name](study)
    assert numbers is not None, f"the study holds no measurements for '{name}': sectum study run measures them"
    return numbers


def curves(study: Study) -> dict[tuple[str, str, str], dict[str, float]]:
    return {(c["kind"], c["order"], c["policy"]): c["at"] for c in observed(study, "reuse")["curves"]}


def test_the_study_is_whole_and_the_enclave_computes_the_same(study: Study) -> None:
    """No case failed, and no output differs from the native one in a single bit."""
    assert not study.failures
    assert study.unequal == 0
    assert len(study.of()) > 150


def test_inside_the_epc_latency_is_native_latency(study: Study) -> None:
    """Within a few percent where weights fill the memory; streams through large maps may cost more."""
    kinds = observed(study, "inside")["kinds"]
    assert kinds["weights"]["over_native"] == pytest.approx(1, abs=0.06)
    assert kinds["weights"]["over_native_low"] > 0.85
    assert kinds["weights"]["over_native_high"] < 1.15
    assert 0.85 < kinds["maps"]["over_native"] < 1.5


def test_a_nearly_full_epc_costs_nothing(study: Study) -> None:
    """An EPC that is nearly full is as fast as one without a limit."""
    for kind in observed(study, "inside")["kinds"].values():
        assert kind["near_full_over_unlimited"] == pytest.approx(1, abs=0.08)


def test_latency_steps_up_at_the_epc_whatever_its_size(study: Study) -> None:
    """Flat below, and above every use of a page loads it: computation is the same on both sides."""
    steps = observed(study, "cliff")["steps"]
    assert len(steps) >= 2
    for step in steps:
        assert step["last_fitting_mib"] <= step["epc_mib"] < step["first_paging_mib"]
        assert step["step"] > 5
        assert step["flat_below"] < 1.3
        assert step["use_us_spread"] < 1.4
        assert step["loads_over_uses"] > 0.95


@pytest.mark.parametrize("policy", ["second-chance", "fifo", "lru"])
def test_weights_used_in_turn_page_almost_entirely_at_once(study: Study, policy: str) -> None:
    """Under every policy, two percent too much memory costs nearly as much as three times too much."""
    cycle = curves(study)["weights", "cycle", policy]
    if policy != "fifo":  # which also pages out, now and then, what would fit
        assert cycle["0.98"] == 0
    assert cycle["1.02"] > 0.9 * cycle["3"] > 1


def test_only_least_recently_used_turns_reuse_into_a_ramp(study: Study) -> None:
    """Coming back to the latest matrix first, it loads what does not fit; the pager's policies load all at once."""
    found = curves(study)
    lru = found["weights", "back", "lru"]
    assert 0 < lru["1.02"] <= lru["1.1"] < lru["1.35"] < lru["2"] < lru["3"]
    assert lru["1.02"] < 0.5
    for policy in ("second-chance", "fifo"):
        assert found["weights", "back", policy]["1.1"] > 0.8


def test_a_page_used_again_at_once_is_loaded_once(study: Study) -> None:
    """Two uses in a row cost half the loads of two uses in turn."""
    found = curves(study)
    for policy in ("second-chance", "fifo"):
        blocks, cycle = found["weights", "blocks", policy]["1.35"], found["weights", "cycle", policy]["1.35"]
        assert blocks / cycle == pytest.approx(0.5, abs=0.08)


def test_the_cost_of_a_page_is_constant(study: Study) -> None:
    """For networks of all sizes and intensities, both policies, and every EPC."""
    cost = observed(study, "page-cost")
    assert cost["n"] > 50
    assert cost["load_us_low"] > 0.7 * cost["load_us"]
    assert cost["load_us_high"] < 1.4 * cost["load_us"]
    low, high = cost["intensity_flop_per_byte"]
    assert high > 50 * low
    for group in ("by_kind", "by_policy", "by_epc_mib"):
        assert max(cost[group].values()) < 1.4 * min(cost[group].values())


def test_the_cost_of_a_page_does_not_depend_on_computation(study: Study) -> None:
    """A hundred times the work, the same memory: a page costs much the same."""
    by_gflop = observed(study, "page-cost")["by_gflop"]
    assert max(map(float, by_gflop)) > 100 * min(map(float, by_gflop))
    assert max(by_gflop.values()) < 1.6 * min(by_gflop.values())


def test_native_latency_plus_page_costs_is_near_the_measured_latency(study: Study) -> None:
    """With costs fitted to the other sweeps, the sum is off by less than 12 % in the median."""
    sums = observed(study, "addition")
    assert sums["n"] >= 12
    assert sums["median_error"] < 0.12
    assert sums["largest_error"] < 0.5


def test_no_constant_slowdown_describes_it(study: Study) -> None:
    """At equal working set / EPC the slowdown varies by an order of magnitude; the sum is much closer."""
    ratios = observed(study, "slowdown")
    assert ratios["range"] > 10
    assert ratios["constant_within_10_percent"] < 0.3
    assert ratios["constant_median_error"] > 3 * observed(study, "addition")["median_error"]


def test_activations_grow_with_the_batch_and_weights_do_not(study: Study) -> None:
    """The working set is a line in the number of images; without images the weights are left."""
    kinds = observed(study, "batch")["kinds"]
    weights, maps = kinds["weights"], kinds["maps"]
    assert weights["weights_mib"] > 5
    assert weights["without_images_mib"] == pytest.approx(weights["weights_mib"], rel=0.1)
    assert weights["each_image_mib"] > 0.1
    assert abs(maps["without_images_mib"]) < 0.25 * maps["each_image_mib"]
    for of in kinds.values():
        assert of["residual_mib"] < 0.1 * max(of["working_set_mib"])


def test_operators_pay_for_their_own_pages(study: Study) -> None:
    """Of equal operators those whose weights are paged take the cost of their pages longer, the others hardly."""
    numbers = observed(study, "operators")
    load_us = observed(study, "page-cost")["load_us"]
    assert 0.6 * load_us < numbers["own_page_us"] < 1.5 * load_us
    own, shared = (numbers[f"{name}_paging_ms"] - numbers[f"{name}_native_ms"] for name in ("own", "shared"))
    assert shared < 0.25 * own


def test_with_more_threads_the_pages_are_the_same_and_the_handler_serialises(study: Study) -> None:
    """Paging does not become faster with compute threads."""
    numbers = OBSERVATIONS["threads"](study)
    if numbers is None:
        pytest.skip("measured with one thread only: more need as many idle CPUs")
    assert numbers["loads_ratio"] == pytest.approx(1, abs=0.1)
    assert numbers["load_us_more"] > 0.8 * numbers["load_us_one"]
