"""Waits in place of preprocessing for the published time, from the moment when real preprocessing could begin."""

from __future__ import annotations

import time
from functools import partial

from sectum.hetee.worker.accelerators.protocol import Stop
from sectum.hetee.worker.preparation import Task


class Pacing:
    """Preprocessing that takes ``seconds``. Each item takes its share of them, and none begins before it has arrived.

    So it begins with the first item, as decoding does. It ends after ``seconds``, but not before the last item has
    arrived and had its share.

    Args:
        seconds: time for the whole batch.
        items: number of items in the batch.
        n_bytes: size of the batch's plaintext.
        stop: ends all waiting.
    """

    def __init__(self, seconds: float, items: int, n_bytes: int, stop: Stop) -> None:
        self._seconds, self._items, self._n_bytes, self._stop = seconds, max(items, 1), n_bytes, stop
        self._received = False
        self._end_s: float | None = None  # None until the first item has arrived

    def due(self, opened_bytes: int) -> list[Task]:
        """The waits that begin now that ``opened_bytes`` have arrived."""
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
