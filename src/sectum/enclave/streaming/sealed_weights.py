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

from sectum.enclave.streaming.narrow_weights import GROUP_BYTES, Widen, narrowed, stored_bytes, widen_here, widened
from sectum.enclave.streaming.tampering import WeightsTamperedError

MEMORY_NAME = "sectum-sealed-weights"
"""Of the untrusted memory, as the kernel lists it among the process's mappings."""
BLOCK_BYTES = 256 << 10
"""Of plain weights: so small that a block stays in the processor's cache from the copy to the decryption."""
NARROW_BLOCK_BYTES = 4 * BLOCK_BYTES
"""Of weights that are stored as int8: about as many before sealing."""
TAG_BYTES = 16
_KEY_BITS = 128
_PLACE = struct.Struct("<16sIIIII")
_LABEL = b"sectum weights 2"


def buffer(n_bytes: int) -> NDArray[np.uint8]:
    """Memory of the enclave that begins with a page. It is not touched yet."""
    whole = np.empty(n_bytes + mmap.PAGESIZE, np.uint8)
    start = -whole.ctypes.data % mmap.PAGESIZE
    return whole[start : start + n_bytes]


@dataclass(frozen=True, slots=True)
class _Block:
    """A block of a stage: where it lies outside, where it belongs inside, and its size there and before sealing."""

    outside: int
    inside: int
    n_bytes: int
    stored_bytes: int
    number: int  # of all blocks; no two share one, so it is the nonce
    place: bytes  # associated data


class SealedWeights:
    """Untrusted memory with the weights of the stages that are streamed.

    Blocks are sealed by AES-GCM. The key is drawn here and never leaves the enclave. A block's nonce is its number,
    its associated data are its stage, its position there, its sizes and the number of blocks of the stage; each block
    is sealed once. So a block opens only where it was put, and there is no older block that could take its place. The
    memory is a file that has no name and ends with the process. All that is needed to find a block stays in the
    enclave.

    Args:
        sizes: bytes of each stage, before sealing.
        narrow: for each stage, ranges of bytes with float32 values that are stored as int8; whole groups, in order.
        widen: widens these.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        narrow: Sequence[Sequence[tuple[int, int]]] | None = None,
        widen: Widen = widen_here,
    ) -> None:
        self._cipher, self._widen = AESGCM(AESGCM.generate_key(_KEY_BITS)), widen
        self._stages: list[list[_Block]] = []
        self.n_bytes = numbered = 0
        for stage, size in enumerate(sizes):
            blocks = list(_blocks(stage, size, narrow[stage] if narrow else (), self.n_bytes, numbered))
            self._stages.append(blocks)
            self.n_bytes += sum(block.stored_bytes + TAG_BYTES for block in blocks)
            numbered += len(blocks)
        self.opened_bytes = self.n_bytes - numbered * TAG_BYTES
        self._sealed: set[int] = set()
        file = os.memfd_create(MEMORY_NAME)
        try:
            os.ftruncate(file, max(1, self.n_bytes))
            self._memory = memoryview(mmap.mmap(file, max(1, self.n_bytes)))
        finally:
            os.close(file)
        largest = max((block.stored_bytes for blocks in self._stages for block in blocks), default=0)
        self._copy = memoryview(bytearray(largest + TAG_BYTES))
        self._narrow = buffer(stored_bytes(NARROW_BLOCK_BYTES) if narrow else 0)

    def seal(self, stage: int, plain: NDArray[np.uint8]) -> None:
        """Seal a stage's bytes.

        Raises:
            ValueError: it was sealed before; two contents must not share nonces. Or a value is not finite that is to be
                stored as int8.
        """
        if stage in self._sealed:
            raise ValueError(f"stage {stage} was sealed before")
        self._sealed.add(stage)
        for block in self._stages[stage]:
            sealed = self._memory[block.outside : block.outside + block.stored_bytes + TAG_BYTES]
            inside = plain[block.inside : block.inside + block.n_bytes]
            stored = inside if block.stored_bytes == block.n_bytes else narrowed(inside)
            self._cipher.encrypt_into(_nonce(block.number), stored.data, block.place, sealed)

    def open(self, stage: int, plain: NDArray[np.uint8]) -> None:
        """Open a stage into memory of the enclave. One thread at a time may do so.

        Each block is copied into the enclave before it is checked and decrypted there: ciphertext is read twice, and a
        host that changed it in between would otherwise choose what is decrypted after the check has read the original.

        Raises:
            WeightsTamperedError: it is not what was sealed.
        """
        for position, block in enumerate(self._stages[stage]):
            size = block.stored_bytes + TAG_BYTES
            copy = self._copy[:size]
            copy[:] = self._memory[block.outside : block.outside + size]
            inside = plain[block.inside : block.inside + block.n_bytes]
            stored = inside if block.stored_bytes == block.n_bytes else self._narrow[: block.stored_bytes]
            try:
                self._cipher.decrypt_into(_nonce(block.number), copy, block.place, stored.data)
            except InvalidTag:
                raise WeightsTamperedError(
                    f"block {position} of the sealed weights of stage {stage} is not the one that was sealed there: it "
                    "was changed, moved or replaced in untrusted memory, so the run ends. If nobody attacks this "
                    "machine, check its memory"
                ) from None
            if stored is not inside:
                widened(stored, inside, self._widen)


def _blocks(stage: int, size: int, narrow: Sequence[tuple[int, int]], outside: int, numbered: int) -> Iterator[_Block]:
    pieces = list(_pieces(size, narrow))
    for position, (inside, n_bytes, is_narrow) in enumerate(pieces):
        stored = stored_bytes(n_bytes) if is_narrow else n_bytes
        place = _PLACE.pack(_LABEL, stage, position, n_bytes, stored, len(pieces))
        yield _Block(outside, inside, n_bytes, stored, numbered + position, place)
        outside += stored + TAG_BYTES


def _pieces(size: int, narrow: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, bool]]:
    """Start and size of each block of a stage, and whether it is stored as int8."""
    end = 0
    for first, last in (*narrow, (size, size)):
        if first < end or last > size or (last - first) % GROUP_BYTES:
            raise ValueError(f"bytes {first} to {last} are not whole groups of float32 values of a stage")
        for start in range(end, first, BLOCK_BYTES):
            yield start, min(BLOCK_BYTES, first - start), False
        for start in range(first, last, NARROW_BLOCK_BYTES):
            yield start, min(NARROW_BLOCK_BYTES, last - start), True
        end = last


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")
