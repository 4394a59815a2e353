"""Bytes that are received before they are asked for: many small frames come with one call."""

from __future__ import annotations

from collections.abc import Callable

AHEAD_BYTES = 32 << 10


class Ahead:
    """What was received of a byte stream and not taken yet.

    Args:
        receive: fills the beginning of the memory that it is given, and says with how many bytes; 0 is the end.
    """

    def __init__(self, receive: Callable[[memoryview], int]) -> None:
        self._receive = receive
        self._memory = memoryview(bytearray(AHEAD_BYTES))
        self._begin = self._end = 0

    def __len__(self) -> int:
        return self._end - self._begin

    def have(self, n_bytes: int) -> bool:
        """Receive until so many bytes, at most `AHEAD_BYTES`, are there. False if the stream ends before."""
        if self._begin == self._end:
            self._begin = self._end = 0
        elif self._begin + n_bytes > AHEAD_BYTES:
            kept = len(self)
            self._memory[:kept] = self._memory[self._begin : self._end]
            self._begin, self._end = 0, kept
        while len(self) < n_bytes:
            got = self._receive(self._memory[self._end :])
            if not got:
                return False
            self._end += got
        return True

    def seen(self, n_bytes: int, offset: int = 0) -> memoryview:
        """So many bytes after the next ``offset``, which stay; fewer if no more are there."""
        begin = min(self._begin + offset, self._end)
        return self._memory[begin : min(begin + n_bytes, self._end)]

    def take(self, n_bytes: int) -> memoryview:
        """Up to so many bytes that are there; they are valid until `have` is called."""
        taken = self.seen(n_bytes)
        self._begin += len(taken)
        return taken
