"""A peer is lost when nothing comes for two seconds after a PING, and not before."""

from __future__ import annotations

import pytest

from sectum.hetee.client import vital_signs
from sectum.hetee.client.vital_signs import Pulse


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test moves."""
    now = [1000.0]
    monkeypatch.setattr(vital_signs.time, "monotonic", lambda: now[0])
    return now


def test_an_answered_ping_is_no_loss(clock: list[float]) -> None:
    """PONG with the right number ends the wait; another number does not."""
    pulse = Pulse()
    assert pulse.due(0.5)
    number = pulse.ping()
    assert not pulse.due(0.5)
    pulse.pong(number - 1)
    clock[0] += 1.9
    assert not pulse.lost
    pulse.pong(number)
    clock[0] += 5
    assert not pulse.lost
    assert pulse.due(0.5)


def test_two_silent_seconds_are_a_loss_unless_something_moves(clock: list[float]) -> None:
    """What is on its way counts: only two seconds in which nothing moved are a loss."""
    pulse = Pulse()
    pulse.ping()
    clock[0] += 1.9
    pulse.moved()
    clock[0] += 1.9
    assert not pulse.lost
    clock[0] += 0.2
    assert pulse.lost
