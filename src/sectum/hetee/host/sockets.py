"""Moves bytes between sockets: small frames through memory, large payloads with ``splice``."""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path

from sectum.hetee.errors import HeteeError
from sectum.hetee.wire.header import HEADER_BYTES, Header, parse
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.read_ahead import READ_AHEAD_BYTES, ReadAheadBuffer

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
    """Ask for socket buffers that hold a few chunks; the kernel may limit them."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        peer.setsockopt(socket.SOL_SOCKET, option, SOCKET_BYTES)


def receive_exactly(source: socket.socket, n_bytes: int) -> bytes:
    """Receive exactly ``n_bytes``.

    Raises:
        ConnectionResetError: the connection ended first.
        OSError: from `socket.recv`.
    """
    data = bytearray(n_bytes)
    view = memoryview(data)
    while view:
        got = source.recv_into(view)
        if not got:
            raise ConnectionResetError(f"ended after {n_bytes - len(view)} of {n_bytes} bytes")
        view = view[got:]
    return bytes(data)


class IncomingFrames:
    """Reads frames from a socket: small frames whole, several with one call; of a large frame only the beginning.

    Frames of at most `READ_AHEAD_BYTES` go through memory. The rest of a larger one stays in the socket for `Splicer`.

    Args:
        source: connected stream socket.
    """

    def __init__(self, source: socket.socket) -> None:
        self.source = source
        self._ahead = ReadAheadBuffer(source.recv_into)

    def header(self) -> Header:
        """The header of the next frame, without consuming it. A small frame has then been received whole.

        Raises:
            FrameRefused: the bytes are not a header.
            SourceEnded: there is no further frame.
        """
        ahead = self._ahead
        if not ahead.have(HEADER_BYTES):
            raise SourceEnded("end of file")
        header = parse(ahead.seen(HEADER_BYTES))
        n_bytes = HEADER_BYTES + header.length
        if n_bytes <= READ_AHEAD_BYTES and not ahead.have(n_bytes):
            raise SourceEnded("end of file")
        return header

    def run(self, first: Header, kinds: frozenset[Kind]) -> tuple[list[Header], int]:
        """``first``, from `header`, and the headers of the frames of these kinds that follow it in memory.

        Returns the headers, and the number of bytes of their frames. All of these frames are in memory whole, except a
        last one that is too large.
        """
        headers, at = [first], HEADER_BYTES + first.length
        while len(self._ahead) - at >= HEADER_BYTES:
            try:
                header = parse(self._ahead.seen(HEADER_BYTES, at))
            except HeteeError:  # refuse it after the frames before it were forwarded
                break
            n_bytes = HEADER_BYTES + header.length
            if header.kind not in kinds or len(self._ahead) - at < n_bytes <= READ_AHEAD_BYTES:
                break
            headers.append(header)
            at += n_bytes
        return headers, at

    def take(self, n_bytes: int) -> memoryview:
        """Consume up to ``n_bytes`` received bytes; the view is valid until `header` is called."""
        return self._ahead.take(n_bytes)


class SourceEnded(ConnectionError):
    """The socket that is read from was closed."""


class SinkEnded(ConnectionError):
    """The socket that is written to was closed."""

    def __init__(self, left: int) -> None:
        super().__init__(f"{left} bytes could not be written")
        self.left = left


# Opened when the host starts, because it can open no file later.
_NOWHERE = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


class Splicer:
    """Moves payloads from one socket to another through a pipe, without copying them. Not thread-safe."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe2(os.O_CLOEXEC)
        with suppress(OSError):  # above this user's limit: the default size works, too
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def move(self, source: socket.socket, sink: socket.socket, n_bytes: int) -> None:
        """Move ``n_bytes``.

        Raises:
            SourceEnded: the source ended too early.
            SinkEnded: the sink ended too early; its ``left`` bytes are still to be read from the source.
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
        """Read ``n_bytes`` and discard them.

        Raises:
            SourceEnded: the source ended too early.
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
            n_bytes -= os.splice(self._out, _NOWHERE, n_bytes)

    def close(self) -> None:
        """Close the pipe."""
        for descriptor in (self._out, self._in):
            os.close(descriptor)
