"""How numbers, verdicts and names are written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sectum.cli.figures import count, mebibytes, milliseconds, number, percent, times
from sectum.cli.predicting import Request, predict
from sectum.cli.report import epc_sizes
from sectum.cli.report_charts import Cost, footprints
from sectum.cli.untrusted import printable
from sectum.cli.verdict import verdict
from sectum.predict.prediction import Overcommit
from sectum.units import GIB, MIB


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0"), (3010.4, "3,010"), (155.23, "155"), (26.44, "26.4"), (0.5321, "0.53"), (0.001, "< 0.01"),
     (9.999, "10.0"), (1234567, "1,230,000"), (-0.0349, "-0.03")],
)  # fmt: skip
def test_number_has_three_significant_digits(value, written):
    assert number(value) == written
    assert milliseconds(value) == f"{written} ms"


def test_amounts_of_memory_can_be_compared():
    assert [mebibytes(n) for n in (0, 2048, 93 * MIB, 548 * MIB, 64 * GIB)] == [
        "0", "2.0 KiB", "93.0 MiB", "548 MiB", "64.0 GiB",
    ]  # fmt: skip


def test_shares_ratios_and_counts_are_short():
    assert [percent(0.824), percent(0.001), percent(0)] == ["82 %", "< 1 %", "0 %"]
    assert [times(5.63), times(23.4)] == ["5.6 times", "23 times"]
    assert [count(141674), count(2.5)] == ["141,674", "2.5"]


@pytest.fixture(scope="module")
def paging():
    request = Request(
        model="zoo:squeezenet1_1",
        enclave="softepc",
        epc_bytes=2 * MIB,
        batch=None,
        inputs={},
        threads=1,
        native_ms=None,
        strict=False,
    )
    return predict(request).prediction


def test_verdict_says_that_it_pages_and_how_much_slower(paging):
    sentence = verdict(paging)
    assert sentence.startswith("squeezenet1_1 does not fit: ")
    assert "2.0 MiB" in sentence
    assert "% of that is paging" in sentence


def test_verdict_says_when_it_may_go_either_way(paging):
    assert "at the edge" in verdict(replace(paging, overcommit=Overcommit(predicted=True, probability=0.6)))


def test_verdict_says_that_it_fits(paging):
    fits = replace(paging, overcommit=Overcommit(predicted=False, probability=0.0))
    assert verdict(fits).startswith("squeezenet1_1 fits: ")


def test_verdict_outside_an_enclave_speaks_of_no_limit(paging):
    native = replace(paging, memory=replace(paging.memory, epc_bytes=None, margin_bytes=None))
    assert "unlimited" in verdict(native)


def test_long_names_lose_their_middle():
    shown = printable("a" * 500 + "end", limit=60)
    assert len(shown) == 60
    assert shown.startswith("aaa")
    assert shown.endswith("end")


def test_curve_shows_both_sides_of_its_step_and_the_size_asked_for():
    sizes = epc_sizes(528 * MIB, 93 * MIB, 530 * MIB)
    assert sizes == sorted(set(sizes))
    assert {93 * MIB, 530 * MIB} <= set(sizes)
    assert any(0.99 * 530 * MIB < size < 530 * MIB for size in sizes)
    assert sizes[0] < 93 * MIB
    assert sizes[-1] > 530 * MIB


def test_curve_exists_for_the_smallest_network_and_enclave():
    assert len(epc_sizes(4096, 256 << 10, None)) > 2


def test_footprint_adds_weights_up_and_activations_not():
    costs = [Cost("a", 10, 5, 1, 0, 0), Cost("b", 20, 7, 1, 0, 0)]
    assert footprints(costs) == [(10, 15), (30, 37)]
