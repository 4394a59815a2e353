"""The weights of all streamed stages, sealed in untrusted memory, and the buffers that they are opened into."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sectum.enclave.streaming.native import Sealer, Streaming

MEMORY_NAME = "sectum-sealed-weights"
"""Of the untrusted memory, as the kernel lists it among the process's files."""


def buffer(n_bytes: int) -> NDArray[np.uint8]:
    """Memory of the enclave that begins with a page. It is not touched yet."""
    whole = np.empty(n_bytes + mmap.PAGESIZE, np.uint8)
    start = -whole.ctypes.data % mmap.PAGESIZE
    return whole[start : start + n_bytes]


@dataclass(frozen=True, slots=True)
class _Sealed:
    """Where a stage lies, and what the enclave remembers of it."""

    offset: int
    n_bytes: int
    nonce: int


class SealedWeights:
    """Untrusted memory with the weights of the stages that are streamed.

    It is a file in memory that has no name and ends with the process. Only its content is untrusted: where a stage
    lies, how large it is and with which nonces it was sealed stays in the enclave.

    Args:
        library: seals and opens.
        sizes: bytes of each stage, before sealing.
    """

    def __init__(self, library: Streaming, sizes: Sequence[int]) -> None:
        self._sealer: Sealer = library.sealer()
        starts = np.cumsum([0, *(library.sealed_bytes(size) for size in sizes)]).tolist()
        self.n_bytes = int(starts[-1])
        file = os.memfd_create(MEMORY_NAME)
        try:
            os.ftruncate(file, max(1, self.n_bytes))
            self._memory = mmap.mmap(file, max(1, self.n_bytes))
        finally:
            os.close(file)
        self._address = np.frombuffer(self._memory, np.uint8).ctypes.data
        self._starts = starts
        self._stages: dict[int, _Sealed] = {}

    def seal(self, stage: int, plain: int, n_bytes: int) -> None:
        """Seal a stage that lies at an address of the enclave. Each stage is sealed once."""
        offset = self._starts[stage]
        nonce = self._sealer.seal(stage, plain, n_bytes, self._address + offset)
        self._stages[stage] = _Sealed(offset, n_bytes, nonce)

    def open(self, stage: int, plain: int) -> None:
        """Open a stage into memory of the enclave.

        Raises:
            WeightsTamperedError: it is not what was sealed.
        """
        sealed = self._stages[stage]
        self._sealer.open(stage, sealed.nonce, self._address + sealed.offset, sealed.n_bytes, plain)
