"""Several clients at once."""

from __future__ import annotations

import pytest

from hetee_soak import fairness, grown, run, wrong


def test_more_clients_than_accelerators_are_all_served() -> None:
    """Six clients on two accelerators get their own results, all are served, and no role's memory grows."""
    found = run(clients=6, accelerators=2, seconds=4)
    assert wrong(found) == []
    # Turns are what is fair, not seconds: one that had all of them to itself would make it 1/6.
    assert found["fairness_jain"] > 0.5
    # Host, controller, and a worker for each client were there all the time and looked at.
    assert {"host", "controller"} < set(found["memory_mib"])
    assert len(found["memory_mib"]) >= 2 + 6


def test_what_is_unfair_or_grows_would_be_seen() -> None:
    """The fairness and memory figures detect a starving client and a memory leak."""
    assert fairness([7, 7, 7, 7]) == pytest.approx(1.0)
    assert fairness([7, 0, 0, 0]) == pytest.approx(0.25)
    assert fairness([0, 0]) == 0.0
    steady, leaking = {"first": 100.0, "last": 104.0, "most": 130.0}, {"first": 100.0, "last": 119.0, "most": 119.0}
    assert grown({"host": steady, "worker 1": leaking}) == ["worker 1: 100.0 MiB, then 119.0 MiB"]
