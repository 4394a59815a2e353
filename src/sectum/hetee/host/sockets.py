"""Moving bytes between sockets: small frames through memory, the payloads of large ones past it."""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path

from sectum.hetee.errors import HeteeError
from sectum.hetee.wire.ahead import AHEAD_BYTES, Ahead
from sectum.hetee.wire.header import HEADER_BYTES, Header, parse
from sectum.hetee.wire.kinds import Kind

PIPE_BYTES = 1 << 20
SOCKET_BYTES = 1 << 21


def connect_unix(path: Path) -> socket.socket:
    """Connect to a Unix stream socket.

    Raises:
        OSError: nobody listens there.
    """
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        peer.connect(str(path))
    except OSError:
        peer.close()
        raise
    return peer


def enlarge(peer: socket.socket) -> None:
    """Give a socket buffers that a few chunks fit into, as far as the system allows."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        peer.setsockopt(socket.SOL_SOCKET, option, SOCKET_BYTES)


def receive_exactly(source: socket.socket, n_bytes: int) -> bytes:
    """Receive so many bytes.

    Raises:
        ConnectionResetError: it ended before.
        OSError: as `socket.recv`.
    """
    data = bytearray(n_bytes)
    view = memoryview(data)
    while view:
        got = source.recv_into(view)
        if not got:
            raise ConnectionResetError(f"ended after {n_bytes - len(view)} of {n_bytes} bytes")
        view = view[got:]
    return bytes(data)


class Inflow:
    """Frames as they come from a socket: small ones whole, several with one call; of a large one its beginning.

    Frames of at most `AHEAD_BYTES` are copied; what is longer moves past this process.

    Args:
        source: connected stream socket.
    """

    def __init__(self, source: socket.socket) -> None:
        self.source = source
        self._ahead = Ahead(source.recv_into)

    def header(self) -> Header:
        """The header of the next frame, which stays; of a frame that fits into memory, the rest was received, too.

        Raises:
            FrameRefused: it is none.
            SourceEnded: no further frame comes.
        """
        self._have(HEADER_BYTES)
        header = parse(self._ahead.seen(HEADER_BYTES))
        if HEADER_BYTES + header.length <= AHEAD_BYTES:
            self._have(HEADER_BYTES + header.length)
        return header

    def run(self, first: Header, kinds: frozenset[Kind]) -> list[Header]:
        """The header ``first``, which `header` gave, and those of the frames of these kinds that follow it in memory.

        Each but the last is there whole; so is the last unless it is too large for that.
        """
        headers, at = [first], HEADER_BYTES + first.length
        while len(self._ahead) - at >= HEADER_BYTES:
            try:
                header = parse(self._ahead.seen(HEADER_BYTES, at))
            except HeteeError:  # its turn comes after those before it
                break
            n_bytes = HEADER_BYTES + header.length
            if header.kind not in kinds or len(self._ahead) - at < n_bytes <= AHEAD_BYTES:
                break
            headers.append(header)
            at += n_bytes
        return headers

    def take(self, n_bytes: int) -> memoryview:
        """Up to so many bytes that were received; they are valid until `header` is called."""
        return self._ahead.take(n_bytes)

    def _have(self, n_bytes: int) -> None:
        if not self._ahead.have(n_bytes):
            raise SourceEnded("end of file")


class SourceEnded(ConnectionError):
    """The side that was read from ended."""


class SinkEnded(ConnectionError):
    """The side that was written to ended."""

    def __init__(self, left: int) -> None:
        super().__init__(f"{left} bytes could not be written")
        self.left = left


class Mover:
    """Moves payloads from one socket to another through a pipe, without looking at them. For one thread."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe2(os.O_CLOEXEC)
        with suppress(OSError):  # more than the system lets this user have: what there is does, too
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._sink = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

    def move(self, source: socket.socket, sink: socket.socket, n_bytes: int) -> None:
        """Move so many bytes.

        Raises:
            SourceEnded: before all came.
            SinkEnded: before all went; its ``left`` are still to be read from the source.
        """
        to = sink.fileno()
        while n_bytes:
            got = self._fill(source, n_bytes)
            n_bytes -= got
            while got:
                try:
                    got -= os.splice(self._out, to, got, flags=os.SPLICE_F_MORE if n_bytes else 0)
                except OSError:
                    self._spill(got)
                    raise SinkEnded(n_bytes) from None

    def discard(self, source: socket.socket, n_bytes: int) -> None:
        """Read so many bytes and forget them.

        Raises:
            SourceEnded: before all came.
        """
        while n_bytes:
            got = self._fill(source, n_bytes)
            n_bytes -= got
            self._spill(got)

    def _fill(self, source: socket.socket, n_bytes: int) -> int:
        try:
            got = os.splice(source.fileno(), self._in, n_bytes)
        except OSError as error:
            raise SourceEnded(str(error)) from None
        if not got:
            raise SourceEnded("end of file")
        return got

    def _spill(self, n_bytes: int) -> None:
        while n_bytes:
            n_bytes -= os.splice(self._out, self._sink, n_bytes)

    def close(self) -> None:
        """Close the pipe."""
        for descriptor in (self._out, self._in, self._sink):
            os.close(descriptor)
