"""The order of the batches of one training job."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Lane(Generic[T]):
    """Passes the batches of one job on in the order in which they were opened, each when it is ready."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened: deque[T] = deque()
        self._ready: set[T] = set()
        self._passing = False  # whether a thread passes batches on

    def open(self, batch: T) -> None:
        """Add a batch after all others."""
        with self._lock:
            self._opened.append(batch)

    def ready(self, batch: T, pass_on: Callable[[T], None]) -> None:
        """Pass on this batch, and those that waited for it, unless one before it is not ready yet.

        One thread at a time passes batches on; another that calls this meanwhile leaves its batch to that thread.
        """
        with self._lock:
            self._ready.add(batch)
            if self._passing:
                return
            self._passing = True
        while (first := self._next()) is not None:
            pass_on(first)

    def _next(self) -> T | None:
        with self._lock:
            if not self._opened or self._opened[0] not in self._ready:
                self._passing = False
                return None
            first = self._opened.popleft()
            self._ready.remove(first)
            return first
