"""Published times of preprocessing begin with the first item that was received."""

from __future__ import annotations

import time

import pytest

from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.worker.accelerators.protocol import Stop
from sectum.hetee.worker.batch_job import BatchJob
from sectum.hetee.worker.pacing import Pacing

LONG_S = 3600.0


def stopped() -> Stop:
    """A stop that is set, so that waiting ends at once."""
    stop = Stop()
    stop.set()
    return stop


def test_nothing_is_prepared_before_an_item_is_there() -> None:
    """Paced preprocessing begins once, when the first item is complete."""
    pacing = Pacing(LONG_S, 4, 400, stopped())
    assert pacing.due(99) == []
    assert len(pacing.due(100)) == 1
    assert pacing.due(200) == []


def test_items_that_come_in_time_cost_nothing_more() -> None:
    """Data that arrives while other items are prepared adds no time."""
    pacing = Pacing(LONG_S, 4, 400, stopped())
    (whole,) = pacing.due(100)
    whole()
    assert pacing.due(400) == []


def test_the_last_item_is_not_ready_before_it_came() -> None:
    """Where receiving takes longer than preparing, the last item still gets its share."""
    pacing = Pacing(1e-9, 4, 400, stopped())
    (whole,) = pacing.due(100)
    whole()
    assert len(pacing.due(400)) == 1
    assert pacing.due(400) == []


def test_an_empty_batch_is_prepared_once() -> None:
    """A batch without bytes waits as well."""
    pacing = Pacing(LONG_S, 0, 0, stopped())
    assert len(pacing.due(0)) == 1
    assert pacing.due(0) == []


def test_preprocessing_at_the_same_time_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that prepare parts of a batch together take the time from the first's start to the last's end."""
    ticks = iter(range(100))
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(ticks))
    message = data_messages.BatchOpening(model=bytes(32), tensors=(), deadline_ms=0)
    batch = BatchJob(Header(Kind.BATCH, 0, stream=1), message, memoryview(b""))
    batch.prepare(lambda: batch.prepare(lambda: None))
    assert batch.times_ns["preprocess"] == 1
    batch.prepare(lambda: None)
    assert batch.times_ns["preprocess"] == 2
