"""Comparing a training in an enclave with one outside."""

from __future__ import annotations

import pytest

from sectum.cli.hetee.training_run import Run

LOSSES = [3.0, 2.0, 0.001]


@pytest.mark.parametrize(
    ("accelerators", "other", "equal"),
    [
        (1, LOSSES, True),
        (1, [3.0, 2.0, 0.0010001], False),
        (2, [3.001, 1.999, 0.0012], True),
        (2, [3.0, 2.0, 0.1], False),
        (2, [3.0, 2.0], False),
    ],
)
def test_a_run_equals_another(accelerators: int, other: list[float], equal: bool) -> None:
    """Losses of one accelerator are equal bit for bit or not at all; those of several differ by rounding."""
    inside = Run("cnn", losses=LOSSES, accelerators=accelerators)
    assert inside.equals(Run("cnn", losses=other)) is equal
