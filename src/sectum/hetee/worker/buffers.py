"""Memory for batches: page-aligned, reused, and overwritten at the end of the session."""

from __future__ import annotations

import ctypes
import mmap
import threading


def anonymous(n_bytes: int) -> mmap.mmap:
    """Private, page-aligned memory filled with zeros.

    Raises:
        MemoryError: there is not enough memory.
    """
    try:
        return mmap.mmap(-1, max(n_bytes, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"{n_bytes} bytes: {error.strerror}") from None


class Buffers:
    """Keeps buffers between batches, because the first touch of a page costs more than opening a record into it.

    Of several that fit, the one that was given back last is used: it is most likely still in a cache.

    Args:
        limit_bytes: largest total of free buffers to keep. A batch within its client's credit always gets a buffer.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._free: list[mmap.mmap] = []
        self._used: set[mmap.mmap] = set()

    def take(self, n_bytes: int) -> memoryview:
        """A buffer of this size, with undefined content.

        Raises:
            MemoryError: there is not enough memory.
        """
        with self._lock:
            most = max(4 * n_bytes, mmap.PAGESIZE)
            fitting = [region for region in reversed(self._free) if n_bytes <= len(region) <= most]
            if fitting:
                region = min(fitting, key=len)
                self._free.remove(region)
            else:
                self._make_room(n_bytes)
                region = anonymous(n_bytes)
            self._used.add(region)
            return memoryview(region)[:n_bytes]

    def give_back(self, view: memoryview) -> None:
        """Take back a buffer. Views of it must not be read afterwards."""
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
        """Overwrite every buffer, including those in use; returns the number of bytes."""
        with self._lock:
            return sum(map(_overwrite, (*self._free, *self._used)))


def _overwrite(region: mmap.mmap) -> int:
    ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(region)), 0, len(region))
    return len(region)
