"""The study's observations find the law that made-up measurements follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sectum.lab.study import store
from sectum.lab.study.cases import Sweep
from sectum.lab.study.observations import OBSERVATIONS, about
from sectum.lab.study.points import Study, load
from sectum.lab.study.store import StudyWriter
from sectum.units import MIB
from study_records import LOAD_US, MINOR_FAULT_US, REFERENCE_MS, cases, fill, record

pytest.importorskip("pyarrow", reason="shards are Parquet: install sectum[train]")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return load(fill(tmp_path_factory.mktemp("study")))


def observed(study: Study, name: str) -> dict[str, Any]:
    numbers = OBSERVATIONS[name](study)
    assert numbers is not None
    return numbers


def test_points_are_the_runs_in_the_enclave_at_the_machines_typical_speed(study: Study) -> None:
    """A ratio becomes milliseconds by the median of all reference times, not by that of its own run."""
    assert len(study.points) == sum(2 + len(case.epcs(MIB)) - 1 for case in cases())
    assert study.references.mixed_ms(0.3) == pytest.approx(REFERENCE_MS)
    for point in study.points:
        assert (point.working_set_over_epc > 1) == point.is_over_committed
        expected = point.case.native_ms + (LOAD_US * point.loads + MINOR_FAULT_US * point.minor_faults) / 1e3
        assert point.latency_ms == pytest.approx(expected)


def test_costs_of_pages_are_found(study: Study) -> None:
    """Loads and minor faults are told apart, and a page costs the same in every group but for its minor faults."""
    cost = observed(study, "page-cost")
    assert cost["fitted_load_us"] == pytest.approx(LOAD_US, rel=1e-4)
    assert cost["fitted_minor_fault_us"] == pytest.approx(MINOR_FAULT_US, rel=1e-2)
    assert LOAD_US <= cost["load_us_low"] <= cost["load_us"] <= cost["load_us_high"]
    assert list(cost["by_epc_mib"]) == ["2", "3"]
    assert list(cost["by_policy"]) == ["fifo", "second-chance"]


def test_the_sum_is_exact_and_a_constant_is_not(study: Study) -> None:
    """Where latency is native time plus the cost of pages, that is what is seen."""
    assert observed(study, "addition")["largest_error"] < 1e-3
    ratios = observed(study, "slowdown")
    assert ratios["range"] > 3
    assert ratios["constant_within_10_percent"] < 0.5
    assert ratios["n"] == len(ratios["points"]) == 10


def test_a_cliff_is_where_the_epc_is(study: Study) -> None:
    """Between two networks that differ by one matrix."""
    steps = observed(study, "cliff")["steps"]
    assert [(step["last_fitting_mib"], step["first_paging_mib"]) for step in steps] == [(2, 3), (3, 4)]
    assert all(step["step"] > 5 and step["flat_below"] == pytest.approx(1) for step in steps)


def test_inside_nothing_is_added(study: Study) -> None:
    """Runs that load nothing take their native time."""
    assert all(kind["over_native"] == pytest.approx(1) for kind in observed(study, "inside")["kinds"].values())


def test_curves_are_told_by_order_and_policy(study: Study) -> None:
    """Those of LRU are simulated, and say so: coming back to the latest page first, it loads only what does not fit."""
    curves = {(curve["order"], curve["policy"]): curve for curve in observed(study, "reuse")["curves"]}
    assert len(curves) == 6
    assert {policy for (_, policy), curve in curves.items() if curve["simulated"]} == {"lru"}
    assert curves["cycle", "fifo"]["loaded_share"] == [0, 1, 1, 1, 1]
    assert curves["back", "lru"]["at"]["1.02"] < 0.7 < 1 < curves["cycle", "lru"]["at"]["1.02"]


def test_a_batch_adds_its_maps(study: Study) -> None:
    """Each image takes as much as the first; nothing else is there."""
    maps = observed(study, "batch")["kinds"]["maps"]
    assert maps["each_image_mib"] == pytest.approx(3)
    assert maps["residual_mib"] < 0.01
    assert [loads > 0 for loads in maps["loads_16_mib"]] == [size > 16 for size in maps["working_set_mib"]]


def test_operators_with_pages_of_their_own_pay_for_them(study: Study) -> None:
    """The others do not."""
    numbers = observed(study, "operators")
    assert numbers["own_page_us"] == pytest.approx(LOAD_US)
    assert numbers["shared_paging_ms"] == numbers["shared_native_ms"] == pytest.approx(1)


def test_threads_are_compared_with_one(study: Study) -> None:
    """The same cases, at the same ratios of working set to EPC."""
    numbers = observed(study, "threads")
    assert (numbers["n"], numbers["threads"], numbers["loads_ratio"]) == (10, 2, 1)
    assert numbers["load_us_more"] == pytest.approx(numbers["load_us_one"])


def test_what_was_not_measured_is_not_observed(tmp_path: Path) -> None:
    """From one sweep alone no other is told."""
    found = load(fill(tmp_path, [case for case in cases() if case.sweep is Sweep.MEMORY]))
    told = {name for name, observe in OBSERVATIONS.items() if observe(found) is not None}
    assert told == {"inside", "cliff", "page-cost"}


def test_failures_and_other_outputs_are_counted(tmp_path: Path) -> None:
    """A study in which something went wrong says so."""
    with StudyWriter(tmp_path, "here", {}) as writer:
        writer.add(record(cases()[0], error="EnclaveFailed: it died", runs=[]))
        other = record(cases()[1])
        other["runs"][1]["outputs_equal_native"] = False
        writer.add(other)
        writer.flush()
    found = load(tmp_path)
    assert found.failures == {cases()[0].key: "EnclaveFailed: it died"}
    facts = about(found)
    assert (facts["cases"], facts["failures"], facts["unequal"]) == (1, 1, 1)
    assert len(list(store.read(tmp_path))) == 2
