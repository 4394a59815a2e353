"""Waiting in place of preprocessing: as long as it was published to take, and begun when it could begin."""

from __future__ import annotations

import time
from functools import partial

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
        self._received = False
        self._end_s: float | None = None  # until the first item is there

    def due(self, opened_bytes: int) -> list[Task]:
        """What has to be waited for from now on, now that so many bytes are there."""
        if self._received or opened_bytes * self._items < self._n_bytes:
            return []
        now_s, tasks = time.monotonic(), list[Task]()
        if self._end_s is None:
            self._end_s = now_s + self._seconds
            tasks.append(partial(self._wait, self._end_s))
        self._received = opened_bytes >= self._n_bytes
        last_s = now_s + self._seconds / self._items
        if self._received and last_s > self._end_s:
            tasks.append(partial(self._wait, last_s))
        return tasks

    def _wait(self, end_s: float) -> None:
        self._stop.wait(max(0.0, end_s - time.monotonic()))
