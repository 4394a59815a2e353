"""The weights of all streamed stages, sealed in untrusted memory, and the buffers that they are opened into."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from sectum.enclave.streaming.tampering import WeightsTamperedError

MEMORY_NAME = "sectum-sealed-weights"
"""Of the untrusted memory, as the kernel lists it among the process's mappings."""
BLOCK_BYTES = 256 << 10
"""Of plain weights: so small that a block stays in the processor's cache from the copy to the decryption."""
TAG_BYTES = 16
_KEY_BITS = 128
_PLACE = struct.Struct("<16sIIII")
_LABEL = b"sectum weights 1"


def buffer(n_bytes: int) -> NDArray[np.uint8]:
    """Memory of the enclave that begins with a page. It is not touched yet."""
    whole = np.empty(n_bytes + mmap.PAGESIZE, np.uint8)
    start = -whole.ctypes.data % mmap.PAGESIZE
    return whole[start : start + n_bytes]


@dataclass(frozen=True, slots=True)
class _Block:
    """A block of a stage: where it lies outside, where it belongs inside, and its size before sealing."""

    outside: int
    inside: int
    n_bytes: int
    number: int  # of all blocks; no two share one, so it is the nonce
    place: bytes  # associated data


class SealedWeights:
    """Untrusted memory with the weights of the stages that are streamed.

    Blocks are sealed by AES-GCM. The key is drawn here and never leaves the enclave. A block's nonce is its number,
    its associated data are its stage, its position there, its size and the number of blocks of the stage; each block
    is sealed once. So a block opens only where it was put, and there is no older block that could take its place. The
    memory is a file that has no name and ends with the process. All that is needed to find a block stays in the
    enclave.

    Args:
        sizes: bytes of each stage, before sealing.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self._cipher = AESGCM(AESGCM.generate_key(_KEY_BITS))
        self._stages: list[list[_Block]] = []
        self.n_bytes = numbered = 0
        for stage, size in enumerate(sizes):
            blocks = list(_blocks(stage, size, self.n_bytes, numbered))
            self._stages.append(blocks)
            self.n_bytes += size + len(blocks) * TAG_BYTES
            numbered += len(blocks)
        self._sealed: set[int] = set()
        file = os.memfd_create(MEMORY_NAME)
        try:
            os.ftruncate(file, max(1, self.n_bytes))
            self._memory = memoryview(mmap.mmap(file, max(1, self.n_bytes)))
        finally:
            os.close(file)
        self._copy = memoryview(bytearray(BLOCK_BYTES + TAG_BYTES))

    def seal(self, stage: int, plain: NDArray[np.uint8]) -> None:
        """Seal a stage's bytes.

        Raises:
            ValueError: it was sealed before; two contents must not share nonces.
        """
        if stage in self._sealed:
            raise ValueError(f"stage {stage} was sealed before")
        self._sealed.add(stage)
        content = plain.data
        for block in self._stages[stage]:
            sealed = self._memory[block.outside : block.outside + block.n_bytes + TAG_BYTES]
            inside = content[block.inside : block.inside + block.n_bytes]
            self._cipher.encrypt_into(_nonce(block.number), inside, block.place, sealed)

    def open(self, stage: int, plain: NDArray[np.uint8]) -> None:
        """Open a stage into memory of the enclave. One thread at a time may do so.

        Each block is copied into the enclave before it is checked and decrypted there: ciphertext is read twice, and a
        host that changed it in between would otherwise choose what is decrypted after the check has read the original.

        Raises:
            WeightsTamperedError: it is not what was sealed.
        """
        content = plain.data
        for position, block in enumerate(self._stages[stage]):
            size = block.n_bytes + TAG_BYTES
            copy = self._copy[:size]
            copy[:] = self._memory[block.outside : block.outside + size]
            inside = content[block.inside : block.inside + block.n_bytes]
            try:
                self._cipher.decrypt_into(_nonce(block.number), copy, block.place, inside)
            except InvalidTag:
                raise WeightsTamperedError(
                    f"block {position} of the sealed weights of stage {stage} is not the one that was sealed there: it "
                    "was changed, moved or replaced in untrusted memory, so the run ends. If nobody attacks this "
                    "machine, check its memory"
                ) from None


def _blocks(stage: int, size: int, outside: int, numbered: int) -> Iterator[_Block]:
    count = -(-size // BLOCK_BYTES)
    for position in range(count):
        inside = position * BLOCK_BYTES
        n_bytes = min(BLOCK_BYTES, size - inside)
        place = _PLACE.pack(_LABEL, stage, position, n_bytes, count)
        yield _Block(outside + inside + position * TAG_BYTES, inside, n_bytes, numbered + position, place)


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")
