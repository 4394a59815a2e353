"""Reads frames from a byte stream, into buffers that are reused, and writes those that are not sealed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire.header import HEADER_BYTES, NO_SESSION, Header, parse
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.read_ahead import READ_AHEAD_BYTES, ReadAheadBuffer


class Frame(NamedTuple):
    """A header and its payload, a view that is overwritten by later frames of the same reader."""

    header: Header
    payload: memoryview


class FrameReader:
    """Reads frames from a byte stream through a read-ahead buffer, so that several small frames come with one call.

    If ``receive`` raises an exception, `next` can be called again, and goes on where it was.

    Args:
        accepts: types that the peer may send.
        receive: writes to the beginning of the given memory and returns the number of bytes; 0 at the end. With True
            it should fill the memory before it returns.
    """

    def __init__(self, accepts: frozenset[Kind], receive: Callable[[memoryview, bool], int]) -> None:
        self._accepts, self._receive = accepts, receive
        self._ahead = ReadAheadBuffer(lambda memory: receive(memory, False))
        self._large = bytearray()
        self._begun: Header | None = None  # of a frame that does not fit into the read-ahead buffer
        self._filled = 0

    def next(self) -> Frame | None:
        """The next frame, valid until the next call; None at the end of the stream.

        Raises:
            FrameRefused: the bytes are not a frame that the peer may send; or ``TRUNCATED``, the stream ended inside a
                frame.
        """
        if self._begun is not None:
            return self._rest(self._begun)
        if not self._have(HEADER_BYTES):
            return None
        header = parse(self._ahead.seen(HEADER_BYTES))
        if header.kind not in self._accepts:
            raise refusal(Refusal.UNEXPECTED, f"{header.kind.name} from a peer that may not send it now")
        n_bytes = HEADER_BYTES + header.length
        if n_bytes <= READ_AHEAD_BYTES:
            self._have(n_bytes)
            return Frame(header, self._ahead.take(n_bytes)[HEADER_BYTES:])
        if len(self._large) < header.length:
            self._large = bytearray(header.length)
        begun = self._ahead.take(READ_AHEAD_BYTES)[HEADER_BYTES:]
        self._large[: len(begun)] = begun
        self._begun, self._filled = header, len(begun)
        return self._rest(header)

    def _have(self, n_bytes: int) -> bool:
        """Receive until ``n_bytes`` are buffered; returns False if the stream ends before the first byte."""
        if self._ahead.have(n_bytes):
            return True
        if not len(self._ahead):
            return False
        raise refusal(Refusal.TRUNCATED, f"the connection ended after {len(self._ahead)} bytes of a frame")

    def _rest(self, header: Header) -> Frame:
        """A large frame, whose rest is received straight into place."""
        payload = memoryview(self._large)[: header.length]
        while self._filled < header.length:
            got = self._receive(payload[self._filled :], True)
            if not got:
                detail = f"the connection ended after {self._filled} of {header.length} bytes of a payload"
                raise refusal(Refusal.TRUNCATED, detail)
            self._filled += got
        self._begun = None
        return Frame(header, payload)


def plain_frame(kind: Kind, payload: bytes, *, session: bytes = NO_SESSION, stream: int = 0) -> bytes:
    """Write a frame that is not sealed: of the handshake, a link, or an error."""
    if kind.sealed:
        raise ValueError(f"{kind.name} has to be sealed")
    return Header(kind, len(payload), session=session, stream=stream).pack() + payload
