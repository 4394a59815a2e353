"""Detects with PING and PONG that the controller or the worker is gone, when nothing else shows it."""

from __future__ import annotations

import time

LOST_AFTER_S = 2.0
PING_EVERY_S = 0.5
SLOWEST_BYTES_PER_S = 32 << 10  # a host that takes less is treated as silent
CHECKED_EVERY_S = 0.1  # by who uses a monitor: for a PING to be sent, and for a loss to be seen, it may take so long


class LivenessMonitor:
    """Watches one peer. The peer is lost when nothing has moved for two seconds, and a PING has no answer meanwhile.

    So silence is noticed within two seconds while PINGs are sent every `PING_EVERY_S`.

    Something moves when bytes arrive from the peer, or when bytes queued before the PING leave. So a PING behind a
    large batch on a slow network is late, not lost, unless they leave more slowly than any network is.
    """

    def __init__(self) -> None:
        self._number = 0
        self._behind_bytes: int | None = None  # bytes that must reach the host before the PING does
        self._sent_s: float | None = None
        self._late_s = 0.0  # from then on, bytes that leave before the PING do not count
        self._last_s = 0.0
        self._moved_s = 0.0
        self._received_bytes = 0

    def due(self, every_s: float) -> bool:
        """Whether a PING should be sent."""
        return self._sent_s is None and time.monotonic() >= self._last_s + every_s

    def ping(self, sent_bytes: int) -> int:
        """Register a PING that is sent now, after ``sent_bytes`` of the connection; returns its number."""
        self._number += 1
        self._behind_bytes = sent_bytes
        self._sent_s = self._last_s = time.monotonic()
        waiting_bytes = max(0, sent_bytes - self._received_bytes)
        self._late_s = self._sent_s + LOST_AFTER_S + waiting_bytes / SLOWEST_BYTES_PER_S
        return self._number

    def pong(self, number: int) -> None:
        """Register a PONG."""
        if number == self._number:
            self._sent_s = self._behind_bytes = None

    def moved(self) -> None:
        """Register that something came from the peer."""
        self._moved_s = time.monotonic()

    def received(self, received_bytes: int) -> None:
        """Register how many bytes of the connection have reached the host."""
        if self._behind_bytes is not None and received_bytes > self._received_bytes:
            if time.monotonic() <= self._late_s:
                self.moved()
            if received_bytes >= self._behind_bytes:
                self._behind_bytes = None
        self._received_bytes = received_bytes

    @property
    def lost(self) -> bool:
        """Whether the peer counts as lost."""
        if self._sent_s is None:
            return False
        begun_s = max(self._sent_s - PING_EVERY_S, self._moved_s)
        return time.monotonic() > begun_s + LOST_AFTER_S - 2 * CHECKED_EVERY_S
