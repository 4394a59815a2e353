"""How numbers, verdicts and names are written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sectum.cli.predict.predicting import Request, predict
from sectum.cli.predict.verdict import verdict
from sectum.cli.render.figures import count, enough, mebibytes, milliseconds, number, percent, times, unbroken
from sectum.cli.render.untrusted import printable
from sectum.cli.report.findings import epc_sizes
from sectum.predict.prediction import Overcommit
from sectum.units import GIB, MIB, parse_bytes


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0"), (3010.4, "3,010"), (155.23, "155"), (26.44, "26.4"), (0.5321, "0.53"), (0.001, "< 0.01"),
     (9.999, "10.0"), (1234567, "1,230,000"), (-0.0349, "-0.03")],
)  # fmt: skip
def test_number_has_three_significant_digits(value, written):
    assert number(value) == written
    assert milliseconds(value) == f"{written} ms"


def test_amounts_of_memory_can_be_compared():
    assert [mebibytes(n) for n in (0, 2048, 256 << 10, 93 * MIB, 548 * MIB, 64 * GIB, 500 * GIB)] == [
        "0", "2.0 KiB", "256 KiB", "93.0 MiB", "548 MiB", "64.0 GiB", "500 GiB",
    ]  # fmt: skip


@pytest.mark.parametrize("n_bytes", [4096, 30_642_176, 109_854_720, 579_796_992, 11 * GIB + 1])
def test_memory_that_is_enough_is_still_enough_when_it_is_typed(n_bytes):
    """Whoever gives an enclave the size that is written gives it at least what was meant, and little more."""
    typed = parse_bytes(enough(n_bytes).replace(",", ""))
    assert n_bytes <= typed < 1.01 * n_bytes


def test_units_stay_with_their_numbers():
    """No line ends between a number and its unit; other spaces are left alone."""
    assert unbroken("93 MiB, 75 % of 3 times").replace("\N{NO-BREAK SPACE}", "_") == "93_MiB, 75_% of 3_times"


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
    sizes = epc_sizes(530 * MIB, 93 * MIB)
    assert sizes == sorted(set(sizes))
    assert {93 * MIB, 530 * MIB} <= set(sizes)
    assert any(0.99 * 530 * MIB < size < 530 * MIB for size in sizes)
    assert any(530 * MIB < size < 1.02 * 530 * MIB for size in sizes)
    assert sizes[0] < 93 * MIB
    assert sizes[-1] > 530 * MIB


def test_curve_exists_for_the_smallest_network_and_enclave():
    assert len(epc_sizes(4096, 256 << 10)) > 2
