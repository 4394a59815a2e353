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


def test_passes_count_from_the_beginning_of_a_training() -> None:
    """A training that goes on after its fourth pass does the fifth and the sixth, as --epochs counts them."""
    run = Run("cnn", begun=8, first_pass=5, losses=[1.0, 3.0, 0.5, 0.5], accuracies=[0.5, 0.75], ends=[2, 4])
    assert list(run.passes()) == [(5, 2.0, 0.5), (6, 0.5, 0.75)]
