"""Reads and writes records on one socket, with as few copies as possible."""

from __future__ import annotations

import select
import socket
import time
from typing import Protocol

from sectum.hetee.channel.record import Opener, Sealer
from sectum.hetee.wire.frames import FrameReader
from sectum.hetee.wire.header import HEADER_BYTES, Header
from sectum.hetee.wire.kinds import ALLOWED, CHUNK_BYTES, MESSAGE_BYTES, TAG_BYTES, Kind, Role

FROM_CLIENT = ALLOWED[Role.CLIENT, Role.WORKER]


class RecordReader(Protocol):
    """Reads what the client sends, one record at a time.

    Attributes:
        transfer_ns: time that receiving the current record took.
        encryption_ns: total time spent opening records.
    """

    transfer_ns: int
    encryption_ns: int

    def next(self) -> Header | None:
        """Wait for a record; None when the connection has ended. Call `message` or `chunk` before the next call.

        Raises:
            HeteeError: the peer broke the protocol.
        """

    def message(self, header: Header) -> bytearray:
        """The record's payload.

        Raises:
            HeteeError: it is not authentic.
        """

    def chunk(self, header: Header, out: memoryview, context: bytes) -> None:
        """Write the payload of a CHUNK to ``out``, which has its length.

        Raises:
            HeteeError: it is not authentic.
        """

    def wipe(self) -> None:
        """Overwrite the keys; nothing can be opened afterwards."""


class RecordWriter(Protocol):
    """Sends records to the client, one at a time. Not thread-safe.

    Attributes:
        transfer_ns: total time spent passing chunks to the socket.
        encryption_ns: total time spent sealing chunks.
    """

    transfer_ns: int
    encryption_ns: int

    def roomy(self) -> bool:
        """Whether a small answer can be sent now without blocking."""

    def message(
        self, kind: Kind, payload: bytes, *, stream: int = 0, chunks: int = 0, total: int = 0, more: bool = False
    ) -> None:
        """Send a message. With ``more`` it is held and sent together with the next record.

        Raises:
            OSError: the socket is closed.
            HeteeError: the keys are wiped or used up.
        """

    def chunk(
        self,
        plaintext: memoryview,
        *,
        stream: int,
        chunk: int,
        chunks: int,
        total: int,
        context: bytes,
        more: bool = False,
    ) -> None:
        """Send a CHUNK, and the messages held before it. With ``more`` all are held and sent with the next record.

        Raises:
            OSError: the socket is closed.
            HeteeError: the keys are wiped or used up.
        """

    def wipe(self) -> None:
        """Overwrite the keys; nothing can be sent afterwards."""


class SealedRecordReader:
    """Receives and opens records in the calling thread.

    Receiving still overlaps with opening, because the kernel fills the socket's buffer meanwhile. A second thread was
    measured and was slower: it moves every record to another core's cache.

    Args:
        sock: connected stream socket.
        opener: opens the records from the client.
    """

    def __init__(self, sock: socket.socket, opener: Opener) -> None:
        self.transfer_ns = self.encryption_ns = 0
        self._socket, self._opener = sock, opener
        self._reader = FrameReader(FROM_CLIENT, self._receive)
        self._payload = memoryview(b"")
        self._begun_ns = 0  # when the first bytes of the record arrived; 0 before

    def next(self) -> Header | None:
        """Wait for a record; None when the connection has ended."""
        self._begun_ns = 0
        frame = self._reader.next()
        if frame is None:
            return None
        self.transfer_ns = time.perf_counter_ns() - self._begun_ns if self._begun_ns else 0
        self._payload = frame.payload
        return frame.header

    def _receive(self, memory: memoryview, whole: bool) -> int:
        try:
            n_bytes = self._socket.recv_into(memory, 0, socket.MSG_WAITALL if whole else 0)
        except OSError:  # the connection was reset or shut down
            return 0
        if not self._begun_ns:  # waiting for a record to begin does not count as transfer
            self._begun_ns = time.perf_counter_ns()
        return n_bytes

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


class SocketRecordWriter:
    """The part that all record writers on a socket share."""

    def __init__(self, sock: socket.socket) -> None:
        self.transfer_ns = self.encryption_ns = 0
        self._socket = sock
        self._writable = select.poll()
        self._writable.register(sock, select.POLLOUT)

    def roomy(self) -> bool:
        """Whether the kernel takes a small answer at once: it reports a socket as writable if it is half empty."""
        return bool(self._writable.poll(0))


class SealedRecordWriter(SocketRecordWriter):
    """Seals records into one buffer and sends them."""

    def __init__(self, sock: socket.socket, sealer: Sealer) -> None:
        super().__init__(sock)
        self._sealer = sealer
        self._frames = memoryview(bytearray(2 * (HEADER_BYTES + TAG_BYTES) + MESSAGE_BYTES + CHUNK_BYTES))
        self._held_bytes = 0  # sealed already, to be sent with the next record

    def message(
        self, kind: Kind, payload: bytes, *, stream: int = 0, chunks: int = 0, total: int = 0, more: bool = False
    ) -> None:
        """Seal a message and send it."""
        place = self._place(len(payload))
        self._held_bytes += self._sealer.seal_into(kind, payload, place, stream=stream, chunks=chunks, total=total)
        if not more:
            self._send()

    def chunk(
        self,
        plaintext: memoryview,
        *,
        stream: int,
        chunk: int,
        chunks: int,
        total: int,
        context: bytes,
        more: bool = False,
    ) -> None:
        """Seal a CHUNK and send it, with the messages held before it."""
        place = self._place(len(plaintext))
        begun_ns = time.perf_counter_ns()
        self._held_bytes += self._sealer.seal_into(
            Kind.CHUNK, plaintext, place, stream=stream, chunk=chunk, chunks=chunks, total=total, context=context
        )
        sealed_ns = time.perf_counter_ns()
        self.encryption_ns += sealed_ns - begun_ns
        if not more:
            self._send()
            self.transfer_ns += time.perf_counter_ns() - sealed_ns

    def _place(self, n_bytes: int) -> memoryview:
        if self._held_bytes + HEADER_BYTES + n_bytes + TAG_BYTES > len(self._frames):
            self._send()
        return self._frames[self._held_bytes :]

    def _send(self) -> None:
        n_bytes, self._held_bytes = self._held_bytes, 0
        self._socket.sendall(self._frames[:n_bytes])

    def wipe(self) -> None:
        """Overwrite the keys."""
        self._sealer.wipe()
