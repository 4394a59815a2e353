"""The frame header: the 64 bytes before each payload."""

from __future__ import annotations

import struct
from typing import NamedTuple

from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire.kinds import (
    CHUNK_BYTES,
    CHUNK_BYTES_LEAST,
    CHUNKED,
    INDEXED,
    LENGTHS,
    STREAM_BYTES,
    STREAMED,
    Kind,
    Plane,
)

MAGIC = b"SHTE"
VERSION = 2
HEADER_BYTES = 64
SESSION_BYTES = 16
NO_SESSION = bytes(SESSION_BYTES)

_LAYOUT = struct.Struct(">4sBBHII16sQQIIQ")
_KINDS = {int(kind): kind for kind in Kind}
_IN_A_SESSION = frozenset(kind for kind in Kind if kind.sealed or kind in (Kind.ATTEST, Kind.PROOF))
_IN_NO_SESSION = frozenset(kind for kind in Kind if kind is Kind.HELLO or kind.plane is Plane.WORKER_LINK)
_NUMBERED = STREAMED | INDEXED


class Header(NamedTuple):
    """The fields of a frame header. Sizes are in bytes; the specification gives each field's meaning."""

    kind: Kind
    length: int
    epoch: int = 0
    session: bytes = NO_SESSION
    sequence: int = 0
    stream: int = 0
    chunk: int = 0
    chunks: int = 0
    total: int = 0

    def pack(self) -> bytes:
        """Write the header; the inverse of `parse`."""
        return _LAYOUT.pack(MAGIC, VERSION, self.kind, 0, *self[1:])


def chunks_needed(total: int, chunk_bytes: int) -> int:
    """The number of chunks of ``chunk_bytes`` that hold ``total`` bytes."""
    return -(-total // chunk_bytes)


def _refuse(code: Refusal, detail: str) -> None:
    raise refusal(code, detail)


def parse(data: bytes | bytearray | memoryview) -> Header:
    """Read a header of exactly 64 bytes, and check everything that does not depend on the connection.

    Raises:
        FrameRefused: with the code of the first broken rule, in the order of the table of refusals.
    """
    if len(data) != HEADER_BYTES:
        raise refusal(Refusal.TRUNCATED, f"a header of {len(data)} bytes, expected {HEADER_BYTES}")
    magic, version, number, flags, *fields = _LAYOUT.unpack(data)
    if magic != MAGIC:
        raise refusal(Refusal.BAD_MAGIC, f"a frame begins with {magic.hex()}, expected {MAGIC.hex()}")
    if version != VERSION:
        raise refusal(Refusal.BAD_VERSION, f"a frame of version {version}, expected {VERSION}")
    kind = _KINDS.get(number)
    if kind is None:
        raise refusal(Refusal.UNKNOWN_TYPE, f"a frame of type 0x{number:02x}, which version {VERSION} does not have")
    if flags:
        raise refusal(Refusal.BAD_FLAGS, f"flags 0x{flags:04x}, version {VERSION} defines none")
    header = Header(kind, *fields)
    least, most = LENGTHS[kind]
    if not least <= header.length <= most:
        _refuse(Refusal.BAD_LENGTH, f"{kind.name} of {header.length} bytes, expected {least} to {most}")
    _check_fields(header)
    if kind in CHUNKED:
        _check_chunking(header)
    return header


def _check_fields(header: Header) -> None:
    kind, _, epoch, session, sequence, stream, chunk, chunks, total = header
    if not kind.sealed and (epoch or sequence):
        _refuse(Refusal.BAD_FIELD, f"{kind.name} is not sealed, but has an epoch or a sequence number")
    if session == NO_SESSION:
        if kind in _IN_A_SESSION:
            _refuse(Refusal.BAD_FIELD, f"{kind.name} without a session id")
    elif kind in _IN_NO_SESSION:
        _refuse(Refusal.BAD_FIELD, f"{kind.name} with a session id")
    if stream:
        if kind not in _NUMBERED:
            _refuse(Refusal.BAD_FIELD, f"{kind.name} with a stream number")
    elif kind in STREAMED:
        _refuse(Refusal.BAD_FIELD, f"{kind.name} without a stream number")
    if chunk and kind is not Kind.CHUNK:
        _refuse(Refusal.BAD_FIELD, f"{kind.name} with a chunk index")
    if (chunks or total) and kind not in CHUNKED:
        _refuse(Refusal.BAD_FIELD, f"{kind.name} announces chunks")


def _check_chunking(header: Header) -> None:
    total, chunks = header.total, header.chunks
    if total > STREAM_BYTES:
        _refuse(Refusal.BAD_CHUNKING, f"a stream of {total} bytes, the limit is {STREAM_BYTES}")
    if not chunks_needed(total, CHUNK_BYTES) <= chunks <= chunks_needed(total, CHUNK_BYTES_LEAST):
        _refuse(Refusal.BAD_CHUNKING, f"{total} bytes in {chunks} chunks, which are too large or too small")
    if header.kind is Kind.CHUNK and header.chunk >= chunks:
        _refuse(Refusal.BAD_CHUNKING, f"chunk {header.chunk} of {chunks}: the last one is {chunks - 1}")
