"""PING and PONG: whether controller and worker are still there, when nothing else tells."""

from __future__ import annotations

import time

LOST_AFTER_S = 2.0
READY_S = 5.0  # from VOUCH: it has to open a key and to be given an accelerator that is free
PING_EVERY_S = 0.5


class Pulse:
    """One peer. It is lost when a PING is unanswered for two seconds in which nothing moved.

    What moves: something came from the peer; or, as long as the PING waits behind other bytes to leave, these leave.
    So a PING behind a large batch on a slow line is late, not lost.
    """

    def __init__(self) -> None:
        self._number = 0
        self._behind_bytes: int | None = None  # what has to arrive at the host before the PING has
        self._sent_s: float | None = None
        self._last_s = 0.0
        self._moved_s = 0.0
        self._received_bytes = 0

    def due(self, every_s: float) -> bool:
        """Whether a PING should be sent."""
        return self._sent_s is None and time.monotonic() >= self._last_s + every_s

    def ping(self, sent_bytes: int) -> int:
        """Number the PING that is sent now, behind so many bytes of the connection."""
        self._number += 1
        self._behind_bytes = sent_bytes
        self._sent_s = self._last_s = time.monotonic()
        return self._number

    def pong(self, number: int) -> None:
        """Take note of a PONG."""
        if number == self._number:
            self._sent_s = self._behind_bytes = None

    def moved(self) -> None:
        """Take note that something came from the peer."""
        self._moved_s = time.monotonic()

    def received(self, received_bytes: int) -> None:
        """Take note of how many bytes of the connection have arrived at the host."""
        if self._behind_bytes is not None and received_bytes > self._received_bytes:
            self.moved()
            if received_bytes >= self._behind_bytes:
                self._behind_bytes = None
        self._received_bytes = received_bytes

    @property
    def lost(self) -> bool:
        """Whether the peer has to be taken for lost."""
        return self._sent_s is not None and time.monotonic() > max(self._sent_s, self._moved_s) + LOST_AFTER_S
