"""A sealed link: messages from one enclave to the next, through a host and a network that nobody trusts.

A message holds the values that cross in one inference. It is sealed in blocks by AES-256-GCM. Each link of each run has
a key of its own, which both enclaves got with the model. The nonce of a block is the number of its message and its
place there; so no two blocks of a link share one. Its associated data are the digest of the plan, the number of the
link, the number of the message, the place, the size of the block and that of the message. So a block opens only in the
place, the message, the link, the plan and the run that it was sealed for.

A message begins with its size, which is not secret. The first block describes the values: type and shape of each.
"""

from __future__ import annotations

import math
import mmap
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from sectum.enclave.streaming.element_types import NUMPY_TYPES
from sectum.enclave.streaming.sealed_weights import BLOCK_BYTES, TAG_BYTES, buffer
from sectum.enclave.streaming.tampering import LinkEndedError, LinkTamperedError

KEY_BYTES, DIGEST_BYTES = 32, 32
PREFIX = struct.Struct("<Q")
"""What a message begins with: the size of all that follows."""
MOST_BYTES = 1 << 34
"""Of a message."""

_MOST_DIMENSIONS = 8
_VALUE = struct.Struct(f"<BB{_MOST_DIMENSIONS}Q")  # element type, dimensions, shape
_COUNT = struct.Struct("<I")  # of values
_PLACE = struct.Struct("<16s32sIQIIQ")  # label, plan, link, message, place, bytes of the block, bytes of the message
_LABEL = b"sectum link 1"
_ALIGNMENT = 64
_DTYPES = tuple(np.dtype(name) for name in NUMPY_TYPES.values())


class Cipher(Protocol):
    """Authenticated encryption, as `cryptography` offers it."""

    def encrypt_into(self, nonce: bytes, data: Any, associated_data: bytes, buf: Any) -> int:
        """Write ciphertext and tag."""
        ...

    def decrypt_into(self, nonce: bytes, data: Any, associated_data: bytes, buf: Any) -> int:
        """Write the plaintext, or raise InvalidTag."""
        ...


@dataclass(frozen=True, slots=True)
class LinkEnd:
    """One end of a link.

    Attributes:
        file: descriptor of a stream socket. The end owns it.
        key: of this link in this run.
        plan: digest of the plan.
        number: of the link in the chain; the first enclave sends on link 0.
    """

    file: int
    key: bytes
    plan: bytes
    number: int


class _End:
    """What sender and receiver share: where they are, and the untrusted memory of a message.

    Args:
        end: of the link.
        cipher: AES-256-GCM with the end's key if None.
    """

    def __init__(self, end: LinkEnd, cipher: Cipher | None = None) -> None:
        if (len(end.key), len(end.plan)) != (KEY_BYTES, DIGEST_BYTES):
            raise ValueError(f"a link needs a key of {KEY_BYTES} bytes and a digest of {DIGEST_BYTES}")
        self._cipher: Cipher = AESGCM(end.key) if cipher is None else cipher
        self._socket = socket.socket(fileno=end.file)
        self._plan, self._number = end.plan, end.number
        self._message = 0
        self._memory = memoryview(mmap.mmap(-1, mmap.PAGESIZE))
        self._n_bytes = 0
        self.total_bytes = 0

    def _make_room(self, n_bytes: int) -> None:
        self._n_bytes = n_bytes
        if n_bytes > len(self._memory):
            self._memory = memoryview(mmap.mmap(-1, n_bytes))

    def _nonce(self, place: int) -> bytes:
        return self._message.to_bytes(8, "big") + place.to_bytes(4, "big")

    def _place(self, place: int, n_bytes: int) -> bytes:
        return _PLACE.pack(_LABEL, self._plan, self._number, self._message, place, n_bytes, self._n_bytes)

    def close(self) -> None:
        """Close the link."""
        self._socket.close()


class LinkSender(_End):
    """Seals values and sends them."""

    def seal(self, values: Sequence[tuple[NDArray[np.uint8], np.dtype[Any], Sequence[int]]]) -> None:
        """Seal a message into untrusted memory.

        Args:
            values: memory, element type and shape of each.

        Raises:
            ValueError: a value has more dimensions than a link carries, or a type that it does not.
        """
        described = _COUNT.pack(len(values)) + b"".join(_described(dtype, shape) for _, dtype, shape in values)
        parts = [memoryview(described), *(memory.data for memory, _, _ in values)]
        self._make_room(sum(len(part) + TAG_BYTES * _blocks(len(part)) for part in parts))
        place = at = 0
        for part in parts:
            for start in range(0, len(part), BLOCK_BYTES):
                block = part[start : start + BLOCK_BYTES]
                end = at + len(block) + TAG_BYTES
                self._cipher.encrypt_into(
                    self._nonce(place), block, self._place(place, len(block)), self._memory[at:end]
                )
                place, at = place + 1, end
        self._message += 1  # here and not where it is sent, so that no two messages can ever share nonces

    def send(self) -> None:
        """Send the message that was sealed.

        Raises:
            LinkEndedError: the other end is gone.
        """
        try:
            self._socket.sendall(PREFIX.pack(self._n_bytes))
            self._socket.sendall(self._memory[: self._n_bytes])
        except (BrokenPipeError, ConnectionResetError):
            raise LinkEndedError(f"link {self._number} ended") from None
        self.total_bytes += PREFIX.size + self._n_bytes


class LinkReceiver(_End):
    """Receives messages and opens them.

    Values are opened into memory of the enclave that the next message overwrites. Each block is copied into the enclave
    before it is checked and decrypted there, so that nobody can change it in between.
    """

    def __init__(self, end: LinkEnd, cipher: Cipher | None = None) -> None:
        super().__init__(end, cipher)
        self._copy = memoryview(bytearray(BLOCK_BYTES + TAG_BYTES))
        self._inside = buffer(1)

    def receive(self) -> None:
        """Wait for the next message, and read it into untrusted memory.

        Raises:
            LinkEndedError: the link ended before it.
            LinkTamperedError: the link ended in the middle of it, or its size is impossible.
        """
        prefix = memoryview(bytearray(PREFIX.size))
        got = self._read(prefix)
        if not got:
            raise LinkEndedError(f"link {self._number} ended")
        (n_bytes,) = PREFIX.unpack(prefix)
        if got < len(prefix) or not TAG_BYTES <= n_bytes <= MOST_BYTES:
            raise self._tampered()
        self._make_room(n_bytes)
        if self._read(self._memory[:n_bytes]) < n_bytes:
            raise self._tampered()
        self.total_bytes += PREFIX.size + n_bytes

    def _read(self, into: memoryview) -> int:
        """Fill memory; how much of it there was before the link ended."""
        done = 0
        while done < len(into):
            try:
                got = self._socket.recv_into(into[done:])
            except ConnectionResetError:
                got = 0
            if not got:
                break
            done += got
        return done

    def open(self, count: int) -> list[NDArray[Any]]:
        """Open the message that was received.

        Args:
            count: of values that cross.

        Raises:
            LinkTamperedError: it is not the message that was sealed for this place.
        """
        described = memoryview(bytearray(_COUNT.size + count * _VALUE.size))
        at = self._open_part(described, 0, 0)
        place = _blocks(len(described))
        kinds = [_read_value(*one) for one in _VALUE.iter_unpack(described[_COUNT.size :])]
        sizes = [math.prod(shape) * dtype.itemsize for dtype, shape in kinds]
        if at + sum(size + TAG_BYTES * _blocks(size) for size in sizes) != self._n_bytes:
            raise self._tampered()
        needed = sum(_aligned(size) for size in sizes)
        if needed > self._inside.nbytes:
            self._inside = buffer(needed)
        values, start = [], 0
        for (dtype, shape), size in zip(kinds, sizes, strict=True):
            inside = self._inside[start : start + size]
            at = self._open_part(inside.data, at, place)
            place += _blocks(size)
            values.append(inside.view(dtype).reshape(shape))
            start += _aligned(size)
        self._message += 1
        return values

    def _open_part(self, inside: memoryview, at: int, place: int) -> int:
        """Open the blocks of one part into memory of the enclave; where the next part begins."""
        for start in range(0, len(inside), BLOCK_BYTES):
            block = inside[start : start + BLOCK_BYTES]
            size = len(block) + TAG_BYTES
            if at + size > self._n_bytes:
                raise self._tampered()
            copy = self._copy[:size]
            copy[:] = self._memory[at : at + size]
            try:
                self._cipher.decrypt_into(self._nonce(place), copy, self._place(place, len(block)), block)
            except InvalidTag:
                raise self._tampered() from None
            place, at = place + 1, at + size
        return at

    def _tampered(self) -> LinkTamperedError:
        return LinkTamperedError(
            f"message {self._message} of link {self._number} between enclaves is not the one that was sealed for this "
            "place: it was changed, moved, repeated or cut on its way, so the run ends. If nobody attacks the "
            "connection, check it"
        )


def _blocks(n_bytes: int) -> int:
    return -(-n_bytes // BLOCK_BYTES)


def _aligned(n_bytes: int) -> int:
    return -(-n_bytes // _ALIGNMENT) * _ALIGNMENT


def _described(dtype: np.dtype[Any], shape: Sequence[int]) -> bytes:
    if dtype not in _DTYPES or len(shape) > _MOST_DIMENSIONS:
        raise ValueError(
            f"a value of type {dtype} with {len(shape)} dimensions cannot cross to another enclave: plan with fewer "
            "enclaves"
        )
    return _VALUE.pack(_DTYPES.index(dtype), len(shape), *shape, *[0] * (_MOST_DIMENSIONS - len(shape)))


def _read_value(kind: int, dimensions: int, *shape: int) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Element type and shape; what is read here was authenticated, so the other enclave wrote it."""
    return _DTYPES[kind], tuple(shape[:dimensions])
