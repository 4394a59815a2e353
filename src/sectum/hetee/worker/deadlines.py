"""Calls functions when their deadlines pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable


class Deadlines:
    """One thread that waits for the earliest of a few deadlines."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[Hashable, tuple[float, Callable[[], None]]] = {}
        self._awaited_s = float("inf")  # when the thread wakes up
        threading.Thread(target=self._watch, name="deadlines", daemon=True).start()

    def add(self, key: Hashable, seconds: float, late: Callable[[], None]) -> None:
        """Call ``late`` after ``seconds``, in the thread of the deadlines, unless `remove` is called first.

        Each key has one deadline. Equal keys are the same key: do not use a `Kind`, which equals a stream number.
        """
        end_s = time.monotonic() + seconds
        with self._changed:
            self._waiting[key] = end_s, late
            if end_s < self._awaited_s:  # otherwise the thread wakes up early enough
                self._changed.notify()

    def remove(self, key: Hashable) -> None:
        """Remove a deadline, if it is still there."""
        with self._changed:
            self._waiting.pop(key, None)

    def _watch(self) -> None:
        while True:
            with self._changed:
                key = min(self._waiting, key=lambda key: self._waiting[key][0], default=None)
                self._awaited_s = float("inf") if key is None else self._waiting[key][0]
                left_s = self._awaited_s - time.monotonic()
                if left_s > 0:
                    self._changed.wait(None if key is None else left_s)
                    continue
                late = self._waiting.pop(key)[1]
            late()
