"""A buffer that receives ahead, so that many small frames come with one system call."""

from __future__ import annotations

from collections.abc import Callable

READ_AHEAD_BYTES = 32 << 10


class ReadAheadBuffer:
    """Bytes that were received from a stream and not taken yet.

    Args:
        receive: writes to the beginning of the given memory and returns the number of bytes; 0 at the end.
    """

    def __init__(self, receive: Callable[[memoryview], int]) -> None:
        self._receive = receive
        self._memory = memoryview(bytearray(READ_AHEAD_BYTES))
        self._begin = self._end = 0

    def __len__(self) -> int:
        return self._end - self._begin

    def have(self, n_bytes: int) -> bool:
        """Receive until ``n_bytes`` (at most `READ_AHEAD_BYTES`) are buffered; False if the stream ends first."""
        if self._end - self._begin >= n_bytes:
            return True
        if self._begin == self._end:
            self._begin = self._end = 0
        elif self._begin + n_bytes > READ_AHEAD_BYTES:
            kept = self._end - self._begin
            self._memory[:kept] = self._memory[self._begin : self._end]
            self._begin, self._end = 0, kept
        while self._end - self._begin < n_bytes:
            got = self._receive(self._memory[self._end :])
            if not got:
                return False
            self._end += got
        return True

    def seen(self, n_bytes: int, offset: int = 0) -> memoryview:
        """The ``n_bytes`` from ``offset`` on, which must be buffered, without taking them."""
        begin = self._begin + offset
        return self._memory[begin : begin + n_bytes]

    def take(self, n_bytes: int) -> memoryview:
        """Take up to ``n_bytes`` buffered bytes; the view is valid until `have` is called."""
        begin, self._begin = self._begin, min(self._begin + n_bytes, self._end)
        return self._memory[begin : self._begin]
