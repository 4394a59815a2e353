"""When stages are opened and computed."""

from __future__ import annotations

import pytest

from sectum.plan.timeline import timeline


def test_one_thread_opens_and_computes_in_turn() -> None:
    """With one buffer all times add up."""
    times = timeline([2.0, None, 3.0], [5.0, 1.0, 4.0], buffers=1)
    assert times[-1].computing.end_ms == pytest.approx(15.0)
    assert times[1].opening is None


def test_opening_ahead_hides_behind_computing() -> None:
    """With two buffers a stage is opened while the one before computes."""
    times = timeline([2.0, 3.0, 3.0], [5.0, 5.0, 5.0], buffers=2)
    assert times[-1].computing.end_ms == pytest.approx(2.0 + 15.0)


def test_a_buffer_is_opened_into_only_when_it_is_free() -> None:
    """The third stage is not opened before the first has computed."""
    times = timeline([1.0, 1.0, 4.0], [5.0, 0.5, 1.0], buffers=2)
    assert times[2].opening is not None
    assert times[2].opening.begin_ms == pytest.approx(times[0].computing.end_ms)
    assert times[2].computing.begin_ms == pytest.approx(times[2].opening.end_ms)
