"""Figures of a dataset that need no dataset."""

from __future__ import annotations

import pytest

from sectum.lab.dataset.summary import EnclaveRow, agreement
from sectum.units import MIB


def test_a_row_knows_its_ratio() -> None:
    """The ratio is working set over EPC."""
    row = EnclaveRow("vgg", 4 * MIB, 2 * MIB, 512.0, True, False, True)
    assert row.working_set_over_epc == 2.0


def test_agreement_is_a_share_of_the_ratios() -> None:
    """Ratios count within 5 and within 10 % of 1, on both sides; without ratios there is no share."""
    assert agreement([0.96, 1.04, 1.08, 1.2]) == pytest.approx({"within_5": 0.5, "within_10": 0.75, "n": 4})
    assert agreement([]) is None
