"""How many clean workers wait in the idle queue: as many as sessions are likely to need while another one starts."""

from __future__ import annotations

from math import ceil, exp, sqrt

_MEMORY_S = 60.0  # how far back the rate looks
_NEWEST = 0.2  # weight of the newest start time


class Demand:
    """Sizes the idle queue.

    If sessions come independently, m of them on average while a worker starts, then m and two square roots of m are
    enough in about 19 of 20 such times.

    Args:
        least: workers to keep, however few sessions come.
        most: workers to keep, however many come.
    """

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, max(least, most)
        self._count, self._counted_s = 0.0, 0.0  # sessions of the last minute, older ones count less
        self._start_s: float | None = None

    def _recent(self, now_s: float) -> float:
        return self._count * exp(min(0.0, self._counted_s - now_s) / _MEMORY_S)

    def took(self, now_s: float) -> None:
        """A session has taken a worker."""
        self._count, self._counted_s = self._recent(now_s) + 1, now_s

    def started(self, seconds: float) -> None:
        """A worker has needed so long to start; a difference of times may come out just below zero."""
        seconds = max(0.0, seconds)
        before_s = seconds if self._start_s is None else self._start_s
        self._start_s = before_s + _NEWEST * (seconds - before_s)

    def wanted(self, now_s: float) -> int:
        """How many workers are to wait."""
        during_a_start = self._recent(now_s) / _MEMORY_S * (self._start_s or 0.0)
        enough = ceil(during_a_start + 2 * sqrt(during_a_start))
        return min(max(self._least, enough), self._most)
