"""A peer is lost when nothing comes for two seconds after a PING, and not before."""

from __future__ import annotations

import pytest

from sectum.hetee.client import liveness
from sectum.hetee.client.liveness import PING_EVERY_S, LivenessMonitor


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test moves."""
    now = [1000.0]
    monkeypatch.setattr(liveness.time, "monotonic", lambda: now[0])
    return now


def test_an_answered_ping_is_no_loss(clock: list[float]) -> None:
    """PONG with the right number ends the wait; another number does not."""
    monitor = LivenessMonitor()
    assert monitor.due(0.5)
    number = monitor.ping(0)
    assert not monitor.due(0.5)
    monitor.pong(number - 1)
    clock[0] += 1.2
    assert not monitor.lost
    monitor.pong(number)
    clock[0] += 5
    assert not monitor.lost
    assert monitor.due(0.5)


def test_two_silent_seconds_are_a_loss_unless_something_moves(clock: list[float]) -> None:
    """A peer is lost only after two seconds in which nothing moved, less the steps of who watches."""
    monitor = LivenessMonitor()
    monitor.ping(0)
    clock[0] += 1.2
    monitor.moved()
    clock[0] += 1.7
    assert not monitor.lost
    clock[0] += 0.2
    assert monitor.lost


def test_silence_just_after_an_answer_is_noticed_within_two_seconds(clock: list[float]) -> None:
    """The time until the next PING is part of the two seconds."""
    monitor = LivenessMonitor()
    number = monitor.ping(0)
    monitor.moved()
    monitor.pong(number)
    clock[0] += PING_EVERY_S
    assert monitor.due(PING_EVERY_S)
    monitor.ping(0)
    clock[0] += 1.2
    assert not monitor.lost
    clock[0] += 0.2
    assert monitor.lost


def test_a_ping_that_has_not_left_is_late_while_what_is_before_it_leaves(clock: list[float]) -> None:
    """Behind a large batch on a slow line a PING is not lost as long as bytes arrive; from then on time counts."""
    monitor = LivenessMonitor()
    monitor.ping(100_000)
    for received in (30_000, 60_000, 90_000):
        clock[0] += 1.2
        monitor.received(received)
        assert not monitor.lost
    clock[0] += 1.2
    monitor.received(110_000)
    clock[0] += 1.2
    monitor.received(500_000)
    clock[0] += 0.6
    assert monitor.lost, "bytes that follow the PING say nothing about its answer"


def test_a_line_that_is_slower_than_any_is_lost(clock: list[float]) -> None:
    """A host that takes a few bytes now and then gains the time that a slow line would take, and no more."""
    monitor = LivenessMonitor()
    monitor.ping(100_000)
    for received in range(1, 1000):
        clock[0] += 0.5
        monitor.received(received)
        if monitor.lost:
            break
    assert received == pytest.approx((2 + 100_000 / liveness.SLOWEST_BYTES_PER_S + 2) / 0.5, abs=2)


def test_a_line_on_which_nothing_moves_is_lost(clock: list[float]) -> None:
    """A host that receives nothing at all for two seconds is a loss, wherever the PING is."""
    monitor = LivenessMonitor()
    monitor.ping(1000)
    for _ in range(5):
        clock[0] += 0.5
        monitor.received(0)
    assert monitor.lost
