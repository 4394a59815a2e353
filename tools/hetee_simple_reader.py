"""Reads frames simply, from bytes that are given to it: the tests compare the program's reader with it."""

from __future__ import annotations

from collections.abc import Iterator

from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire.frames import Frame
from sectum.hetee.wire.header import HEADER_BYTES, Header, parse
from sectum.hetee.wire.kinds import Kind


class SimpleFrameReader:
    """Cuts a byte stream into frames; does no input or output itself.

    ::

        while frame_or_none := reader.advance(socket.recv_into(reader.writable())): ...

    A caller receives at most ``len(writable())`` bytes into `writable`, then passes their number to `advance`. So a
    payload is written once, and opened where it is. It is valid until the next frame begins.

    Args:
        accepts: types that the peer may send now; assign to it when the state of the connection changes.
    """

    def __init__(self, accepts: frozenset[Kind]) -> None:
        self.accepts = accepts
        self._head = memoryview(bytearray(HEADER_BYTES))
        self._payload = bytearray()
        self._header: Header | None = None
        self._body = memoryview(b"")
        self._filled = 0
        self._dead = False

    @property
    def idle(self) -> bool:
        """Whether no frame is incomplete."""
        return self._header is None and not self._filled

    def writable(self) -> memoryview:
        """Memory for the next bytes: never empty, and never longer than the rest of the current header or payload."""
        return (self._head if self._header is None else self._body)[self._filled :]

    def advance(self, n_bytes: int) -> Frame | None:
        """Register ``n_bytes`` written to `writable`; returns a frame if they complete one.

        Raises:
            FrameRefused: the bytes are not a frame that the peer may send now; the reader is then unusable.
        """
        if self._dead:
            raise refusal(Refusal.UNEXPECTED, "bytes after a frame that was refused")
        if not 0 <= n_bytes <= len(self.writable()):
            raise ValueError(f"{n_bytes} bytes in a space of {len(self.writable())}")
        self._filled += n_bytes
        if self._header is None:
            if self._filled < HEADER_BYTES:
                return None
            self._begin()
        assert self._header is not None
        if self._filled < self._header.length:
            return None
        frame = Frame(self._header, self._body)
        self._header, self._filled = None, 0
        return frame

    def _begin(self) -> None:
        self._dead = True
        header = parse(self._head)
        if header.kind not in self.accepts:
            raise refusal(Refusal.UNEXPECTED, f"{header.kind.name} from a peer that may not send it now")
        self._dead = False
        # A new buffer when it is too small: a bytearray cannot grow while a caller holds a view of it.
        if len(self._payload) < header.length:
            self._payload = bytearray(header.length)
        self._body = memoryview(self._payload)[: header.length]
        self._header, self._filled = header, 0

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Frame]:
        """Read ``data`` by copying it; each frame is valid until the next.

        Raises:
            FrameRefused: as `advance`.
        """
        view = memoryview(data)
        while len(view):
            space = self.writable()
            n_bytes = min(len(space), len(view))
            space[:n_bytes] = view[:n_bytes]
            view = view[n_bytes:]
            if frame := self.advance(n_bytes):
                yield frame

    def end(self) -> None:
        """Register the end of the byte stream.

        Raises:
            FrameRefused: ``TRUNCATED``, it ended inside a frame.
        """
        if not self.idle and not self._dead:
            have = "a header" if self._header is None else f"{self._header.kind.name} of {self._header.length} bytes"
            raise refusal(Refusal.TRUNCATED, f"the connection ended after {self._filled} bytes of {have}")
