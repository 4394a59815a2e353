"""Waiting in place of preprocessing: as long as it was published to take, and begun when it could begin."""

from __future__ import annotations

import time

from sectum.hetee.worker.accelerators.protocol import Stop
from sectum.hetee.worker.preparation import Task


class Pacing:
    """Preprocessing that takes ``seconds``: each item its share, one after the other, none before it was received.

    So it begins with the first item, as decoding does, and ends when its time is over, but not before the last item
    was received and had its share.

    Args:
        seconds: for the whole batch.
        items: in it.
        n_bytes: of its plaintext.
        stop: ends all waiting.
    """

    def __init__(self, seconds: float, items: int, n_bytes: int, stop: Stop) -> None:
        self._seconds, self._items, self._n_bytes, self._stop = seconds, max(items, 1), n_bytes, stop
        self._begun = self._received = False
        self._end_s = float("inf")  # until some thread has taken it up

    def due(self, opened_bytes: int) -> list[Task]:
        """What has to be waited for from now on, now that so many bytes are there."""
        if self._received or opened_bytes * self._items < self._n_bytes:
            return []
        tasks: list[Task] = [] if self._begun else [self._all]
        self._begun, self._received = True, opened_bytes >= self._n_bytes
        if self._received and time.monotonic() + self._seconds / self._items > self._end_s:
            tasks.append(self._last)
        return tasks

    def _all(self) -> None:
        self._end_s = time.monotonic() + self._seconds
        self._stop.wait(self._seconds)

    def _last(self) -> None:
        self._stop.wait(self._seconds / self._items)
