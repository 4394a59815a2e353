"""Records in and out of one socket: received into a reused slot, opened into place, sealed from where they lie."""

from __future__ import annotations

import socket
import time
from typing import Protocol

from sectum.hetee.channel.record import Opener, Sealer
from sectum.hetee.wire.frames import FrameReader
from sectum.hetee.wire.header import HEADER_BYTES, Header
from sectum.hetee.wire.kinds import ALLOWED, CHUNK_BYTES, TAG_BYTES, Kind, Role

FROM_CLIENT = ALLOWED[Role.CLIENT, Role.WORKER]


class Inlet(Protocol):
    """What the client sends, a record at a time.

    Attributes:
        transfer_ns: time in which the bytes of the record that `next` gave came off the socket.
        encryption_ns: time spent opening, so far.
    """

    transfer_ns: int
    encryption_ns: int

    def next(self) -> Header | None:
        """Wait for a record; None when no more will come. It is taken by `message` or `chunk` before the next.

        Raises:
            HeteeError: what came breaks the protocol.
        """

    def message(self, header: Header) -> bytearray:
        """The record's payload.

        Raises:
            HeteeError: it is not authentic.
        """

    def chunk(self, header: Header, out: memoryview, context: bytes) -> None:
        """Put the payload of a CHUNK into ``out``, which is as long.

        Raises:
            HeteeError: it is not authentic.
        """

    def wipe(self) -> None:
        """Overwrite the keys; nothing can be opened any more."""


class Outlet(Protocol):
    """What is sent to the client, a record at a time, by one thread.

    Attributes:
        transfer_ns: time spent in giving bytes to the socket, so far.
        encryption_ns: time spent sealing, so far.
    """

    transfer_ns: int
    encryption_ns: int

    def message(self, kind: Kind, payload: bytes, *, stream: int = 0, chunks: int = 0, total: int = 0) -> None:
        """Send a message.

        Raises:
            OSError: the socket has ended.
            HeteeError: no key is left to send with.
        """

    def chunk(self, plaintext: memoryview, *, stream: int, chunk: int, chunks: int, total: int, context: bytes) -> None:
        """Send a CHUNK.

        Raises:
            OSError: the socket has ended.
            HeteeError: no key is left to send with.
        """

    def wipe(self) -> None:
        """Overwrite the keys; nothing can be sent any more."""


class SealedInlet:
    """Receives and opens records in the calling thread.

    Receiving overlaps with opening all the same, in the socket's buffer: a second thread was measured to cost more than
    it wins, as it hands every record to another core's cache.

    Args:
        sock: connected stream socket.
        opener: of the direction from the client.
    """

    def __init__(self, sock: socket.socket, opener: Opener) -> None:
        self.transfer_ns = self.encryption_ns = 0
        self._socket, self._opener = sock, opener
        self._reader = FrameReader(FROM_CLIENT)
        self._payload = memoryview(b"")

    def next(self) -> Header | None:
        """Wait for a record; None when no more will come."""
        reader, begun_ns = self._reader, 0
        while True:
            try:
                n_bytes = self._socket.recv_into(reader.writable(), 0, socket.MSG_WAITALL)
            except OSError:  # a socket that was cut has ended
                n_bytes = 0
            if not n_bytes:
                reader.end()
                return None
            if not begun_ns:  # waiting for a record to begin is idleness, not transfer
                begun_ns = time.perf_counter_ns()
            if frame := reader.advance(n_bytes):
                self.transfer_ns = time.perf_counter_ns() - begun_ns
                self._payload = frame.payload
                return frame.header

    def message(self, header: Header) -> bytearray:
        """Open the record's payload."""
        return self._opener.open(header, self._payload)

    def chunk(self, header: Header, out: memoryview, context: bytes) -> None:
        """Open the payload of a CHUNK into ``out``."""
        begun_ns = time.perf_counter_ns()
        self._opener.open_into(header, self._payload, out, context=context)
        self.encryption_ns += time.perf_counter_ns() - begun_ns

    def wipe(self) -> None:
        """Overwrite the keys."""
        self._opener.wipe()


class SealedOutlet:
    """Seals records into one buffer, and sends them."""

    def __init__(self, sock: socket.socket, sealer: Sealer) -> None:
        self.transfer_ns = self.encryption_ns = 0
        self._socket, self._sealer = sock, sealer
        self._frame = memoryview(bytearray(HEADER_BYTES + CHUNK_BYTES + TAG_BYTES))

    def message(self, kind: Kind, payload: bytes, *, stream: int = 0, chunks: int = 0, total: int = 0) -> None:
        """Seal a message and send it."""
        n_bytes = self._sealer.seal_into(kind, payload, self._frame, stream=stream, chunks=chunks, total=total)
        self._socket.sendall(self._frame[:n_bytes])

    def chunk(self, plaintext: memoryview, *, stream: int, chunk: int, chunks: int, total: int, context: bytes) -> None:
        """Seal a CHUNK and send it."""
        begun_ns = time.perf_counter_ns()
        n_bytes = self._sealer.seal_into(
            Kind.CHUNK,
            plaintext,
            self._frame,
            stream=stream,
            chunk=chunk,
            chunks=chunks,
            total=total,
            context=context,
        )
        sealed_ns = time.perf_counter_ns()
        self._socket.sendall(self._frame[:n_bytes])
        self.encryption_ns += sealed_ns - begun_ns
        self.transfer_ns += time.perf_counter_ns() - sealed_ns

    def wipe(self) -> None:
        """Overwrite the keys."""
        self._sealer.wipe()
