"""Deadlines that pass are called once and in order; removed ones are not called."""

from __future__ import annotations

import threading
import time

from sectum.hetee.worker.deadlines import Deadlines


def test_calls_what_is_late_in_order() -> None:
    """The earliest deadline is first, also if it was added last."""
    deadlines, late, done = Deadlines(), [], threading.Event()
    deadlines.add("c", 0.15, done.set)
    deadlines.add("b", 0.10, lambda: late.append("b"))
    deadlines.add("a", 0.05, lambda: late.append("a"))
    assert done.wait(10)
    assert late == ["a", "b"]


def test_forgets_what_was_in_time() -> None:
    """A deadline that was removed is not called; removing it twice, or one that never was, is no error."""
    deadlines, late, done = Deadlines(), [], threading.Event()
    deadlines.add("a", 0.05, lambda: late.append("a"))
    deadlines.add("b", 0.10, done.set)
    deadlines.remove("a")
    deadlines.remove("a")
    deadlines.remove("never")
    assert done.wait(10)
    assert late == []


def test_waits_without_being_late_itself() -> None:
    """It calls soon after the deadline, never before."""
    deadlines, done = Deadlines(), threading.Event()
    begun_s = time.monotonic()
    deadlines.add("a", 0.05, done.set)
    assert done.wait(10)
    assert time.monotonic() - begun_s >= 0.05
