"""The time that threads waited for a CPU."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from sectum.enclave.runners.reference_kernel import WaitClock

TASKS = Path("/proc/self/task")


def ended(thread: threading.Thread) -> None:
    """Wait until the kernel has forgotten a thread."""
    thread.join()
    until = time.monotonic() + 30
    while (TASKS / str(thread.native_id)).exists():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_a_thread_that_ends_does_not_end_the_clock() -> None:
    """A thread that ends after the clock was made counts with what it had waited, so the clock never goes back."""
    if not list(TASKS.glob("*/schedstat")):
        pytest.skip("this kernel has no scheduler statistics")
    may_end = threading.Event()
    thread = threading.Thread(target=may_end.wait)
    thread.start()
    clock = WaitClock()
    before = clock.now_ns()
    may_end.set()
    ended(thread)
    assert clock.now_ns() >= before


def test_a_thread_that_ends_between_listing_and_opening_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that was listed and is gone is passed over, and the others are still read."""
    listed = sorted(TASKS.glob("*/schedstat"))
    if not listed:
        pytest.skip("this kernel has no scheduler statistics")
    monkeypatch.setattr(Path, "glob", lambda _self, _pattern: [TASKS / "999999999" / "schedstat", *listed])
    assert len(WaitClock()._waited_ns) == len(listed)
