"""libstreaming in this process: the runtime's allocator."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_LEARNED = 1 << 16
_TOO_MANY = (1 << (8 * ctypes.sizeof(ctypes.c_size_t))) - 1


class _Taken:
    """Gives memory back when it is no longer used."""

    def __init__(self, library: ctypes.CDLL, address: int, n_bytes: int) -> None:
        self._library, self._address = library, address
        self.__array_interface__ = {"shape": (n_bytes,), "typestr": "|u1", "data": (address, False), "version": 3}

    def __del__(self) -> None:
        self._library.streaming_give_back(self._address)


class Allocator:
    """Decides where ONNX Runtime's weights and activations lie."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._library = library = ctypes.CDLL(path)
        pointer, size, word = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint64
        for name, result, arguments in (
            ("arena", ctypes.c_int, [size]),
            ("arena_use", None, [ctypes.POINTER(word), ctypes.POINTER(word)]),
            ("take", pointer, [size]),
            ("give_back", None, [pointer]),
            ("learn", None, []),
            ("learned", size, [ctypes.POINTER(word), size]),
            ("place", None, [ctypes.POINTER(pointer), ctypes.POINTER(word), size]),
            ("placed", ctypes.c_int, []),
            ("widen", None, [pointer, pointer, pointer, size]),
        ):
            function = getattr(library, f"streaming_{name}")
            function.restype, function.argtypes = result, arguments
        self._kept: list[object] = []

    def arena(self, n_bytes: int) -> None:
        """Give activations so many bytes of their own."""
        if self._library.streaming_arena(max(1, n_bytes)):
            raise MemoryError(f"no memory for {n_bytes} bytes of activations")

    def arena_use(self) -> tuple[int, int]:
        """The most bytes of the arena that were in use since the last call, and bytes that did not fit so far."""
        most, outside = ctypes.c_uint64(), ctypes.c_uint64()
        self._library.streaming_arena_use(ctypes.byref(most), ctypes.byref(outside))
        return most.value, outside.value

    def take(self, n_bytes: int) -> NDArray[np.uint8]:
        """Memory of the arena, until the last array that shares it is gone.

        Raises:
            MemoryError: there is none.
        """
        address = self._library.streaming_take(n_bytes)
        if address is None:
            raise MemoryError(f"no memory for {n_bytes} bytes of activations")
        return np.asarray(_Taken(self._library, address, n_bytes))

    def widen(self, scales: NDArray[np.float32], codes: NDArray[np.int8], values: NDArray[np.float32]) -> None:
        """Multiply codes by the scales of their columns, as `sectum.enclave.streaming.narrow_weights` stores them."""
        self._library.streaming_widen(scales.ctypes.data, codes.ctypes.data, values.ctypes.data, len(scales))

    def learn(self) -> None:
        """Learn the runtime's allocations from now on."""
        self._library.streaming_learn()

    def learned(self) -> list[int]:
        """End learning: sizes of the allocations, 0 where one was freed."""
        sizes = (ctypes.c_uint64 * _LEARNED)()
        count = self._library.streaming_learned(sizes, _LEARNED)
        if count == _TOO_MANY:
            raise ValueError(f"a stage makes more than {_LEARNED} allocations: give it fewer operators")
        return list(sizes[:count])

    def place(self, addresses: Sequence[int | None], sizes: Sequence[int]) -> None:
        """Place the runtime's next allocations at these addresses, by malloc where there is none."""
        count = len(sizes)
        self._kept = [(ctypes.c_void_p * count)(*addresses), (ctypes.c_uint64 * count)(*sizes)]
        self._library.streaming_place(*self._kept, count)

    def placed(self) -> bool:
        """End placing; whether the allocations were those that were learned."""
        return bool(self._library.streaming_placed() == 0)
