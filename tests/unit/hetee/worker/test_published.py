"""Paced times are the published ones."""

from __future__ import annotations

import pytest

from sectum.errors import UsageError
from sectum.hetee.worker.accelerators import published


def test_gives_what_was_published() -> None:
    """A published batch size has its published times, to the digit, with their source."""
    assert published.networks() == ("VGG16", "GoogLeNet", "ResNet50", "ResNet101", "ResNet152")
    pace = published.pace("ResNet152", 64)
    assert (pace.preprocess_us, pace.compute_us) == (257_000, 404_000)
    assert "10.1109" in (published.__doc__ or "")
    assert "ResNet152, batch 64" in pace.source


def test_computing_takes_longer_for_more_images() -> None:
    """Between published sizes times rise from one to the next, and say that they are no published point."""
    for network in published.networks():
        times = [published.pace(network, batch).compute_us for batch in range(4, 65)]
        assert times == sorted(times)
    between = published.pace("VGG16", 12)
    assert between.compute_us == (47_000 + 80_000) // 2
    assert "between 8 and 16" in between.source


@pytest.mark.parametrize(("network", "batch"), [("AlexNet", 8), ("VGG16", 3), ("VGG16", 65)])
def test_invents_nothing(network: str, batch: int) -> None:
    """What was not published is refused."""
    with pytest.raises(UsageError, match="published"):
        published.pace(network, batch)
