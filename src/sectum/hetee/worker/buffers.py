"""Memory for batches: page-aligned, reused, overwritten at the end."""

from __future__ import annotations

import ctypes
import mmap
import threading


def anonymous(n_bytes: int) -> mmap.mmap:
    """Zeros, page-aligned, that are this process's alone.

    Raises:
        MemoryError: there is not so much.
    """
    try:
        return mmap.mmap(-1, max(n_bytes, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"{n_bytes} bytes: {error.strerror}") from None


class Buffers:
    """Keeps buffers between batches, as the first touch of a page costs more than opening a record into it.

    Args:
        limit_bytes: how much may be kept; a batch whose client has the credit always gets its buffer.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._free: list[mmap.mmap] = []
        self._used: set[mmap.mmap] = set()

    def take(self, n_bytes: int) -> memoryview:
        """A buffer of this size, its content undefined.

        Raises:
            MemoryError: there is not so much.
        """
        with self._lock:
            fitting = [region for region in self._free if n_bytes <= len(region) <= max(4 * n_bytes, mmap.PAGESIZE)]
            if fitting:
                region = min(fitting, key=len)
                self._free.remove(region)
            else:
                self._make_room(n_bytes)
                region = anonymous(n_bytes)
            self._used.add(region)
            return memoryview(region)[:n_bytes]

    def give_back(self, view: memoryview) -> None:
        """Return a buffer; views of it must not be read any more."""
        region = view.obj
        assert isinstance(region, mmap.mmap)
        with self._lock:
            self._used.remove(region)
            self._free.append(region)
            self._make_room(0)

    def _make_room(self, n_bytes: int) -> None:
        while self._free and n_bytes + sum(map(len, (*self._free, *self._used))) > self._limit_bytes:
            _overwrite(self._free.pop(0))

    def wipe(self) -> int:
        """Overwrite every buffer, also those in use. Gives the number of bytes."""
        with self._lock:
            return sum(map(_overwrite, (*self._free, *self._used)))


def _overwrite(region: mmap.mmap) -> int:
    ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(region)), 0, len(region))
    return len(region)
