"""How numbers are written."""

from __future__ import annotations

import pytest

from sectum.cli.render.figures import count, join_units, milliseconds, number, percent, plural, times


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0"), (3010.4, "3,010"), (155.23, "155"), (26.44, "26.4"), (0.5321, "0.53"), (0.001, "< 0.01"),
     (9.999, "10.0"), (1234567, "1,230,000"), (-0.0349, "-0.03")],
)  # fmt: skip
def test_a_number_has_three_significant_digits(value, written):
    """More digits than a prediction knows are not shown."""
    assert number(value) == written
    assert milliseconds(value) == f"{written} ms"


def test_units_stay_with_their_numbers():
    """No line breaks between a number and its unit; other spaces are left alone."""
    assert join_units("93 MiB, 75 % of 3 times").replace("\N{NO-BREAK SPACE}", "_") == "93_MiB, 75_% of 3_times"


def test_shares_ratios_and_counts_are_short():
    """Shares are whole per cents, ratios have two digits, counts are whole."""
    assert [percent(0.824), percent(0.001), percent(0)] == ["82 %", "< 1 %", "0 %"]
    assert [times(5.63), times(23.4)] == ["5.6 times", "23 times"]
    assert [count(141674), count(2.5)] == ["141,674", "2.5"]
    assert [plural(1, "thread"), plural(2, "thread")] == ["1 thread", "2 threads"]
