"""Sizes in words."""

from __future__ import annotations

import pytest

from sectum.units import GIB, KIB, MIB, format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("n_bytes", "written"),
    [(0, "0 B"), (900, "900 B"), (2 * KIB, "2 KiB"), (256 * KIB, "256 KiB"), (93 * MIB, "93 MiB"),
     (93 * MIB + 1, "93.0 MiB"), (int(7.5 * MIB), "7.5 MiB"), (548 * MIB + 9, "548 MiB"), (4 * GIB, "4 GiB"),
     (1023.7 * MIB, "1.00 GiB"), (1.27 * GIB, "1.27 GiB"), (64 * GIB, "64 GiB"), (11.55 * GIB, "11.6 GiB"),
     (-12 * MIB, "-12 MiB")],
)  # fmt: skip
def test_a_size_has_the_largest_unit_that_fits_and_three_digits_at_most(n_bytes, written):
    """Sizes are written alike everywhere, so that two of them can be compared."""
    assert format_bytes(n_bytes) == written


@pytest.mark.parametrize("n_bytes", [4096, 30_642_176, 109_854_720, 579_796_992, 1030 * MIB, 11 * GIB + 1])
def test_a_size_that_is_rounded_up_is_large_enough_when_typed(n_bytes):
    """An EPC of the written size holds what was meant, and is at most one per cent larger."""
    typed = parse_bytes(format_bytes(n_bytes, round_up=True).replace(",", ""))
    assert n_bytes <= typed < 1.01 * n_bytes
