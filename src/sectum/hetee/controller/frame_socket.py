"""A non-blocking socket that carries frames, and file descriptors with them."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator

from sectum.hetee.errors import FrameRefused, Refusal, refusal
from sectum.hetee.wire.frames import Frame, FrameReader
from sectum.hetee.wire.kinds import Kind

_RECEIVES_A_TURN = 2
_UNSENT_BYTES = 256 << 10  # so the sessions of one identity keep a few MiB waiting at most


class FrameSocket:
    """A socket from the controller to a host or to a worker.

    Args:
        peer: the socket.
        accepts: types of frames that the peer may send.
    """

    def __init__(self, peer: socket.socket, accepts: frozenset[Kind]) -> None:
        peer.setblocking(False)
        self.socket = peer
        self.closing = False
        self._reader = FrameReader(accepts, self._receive)
        self._receives = 0
        self._unsent: deque[tuple[memoryview, socket.socket | None]] = deque()
        self._unsent_bytes = 0

    def frames(self) -> Iterator[Frame]:
        """Yield the frames that have arrived; each is valid until the next.

        Raises:
            FrameRefused: the bytes are not a frame that this peer may send.
            ConnectionError: the peer is gone.
        """
        self._receives = _RECEIVES_A_TURN
        while True:
            try:
                frame = self._reader.next()
            except BlockingIOError:
                return
            except FrameRefused as error:
                if error.code is not Refusal.TRUNCATED:
                    raise
                frame = None
            if frame is None:
                raise ConnectionResetError("the peer closed the connection")
            yield frame

    def _receive(self, memory: memoryview, _whole: bool) -> int:
        if not self._receives:  # the others have their turn
            raise BlockingIOError
        self._receives -= 1
        return self.socket.recv_into(memory)

    def send(self, frame: bytes | bytearray, descriptor: socket.socket | None = None) -> None:
        """Send as much as the socket takes now, and keep the rest for `flush`.

        Args:
            frame: a whole frame.
            descriptor: a socket to pass with the frame's first byte; it is closed afterwards.

        Raises:
            ServiceRefused: the peer leaves too much unread.
            ConnectionError: the peer is gone.
        """
        self._unsent.append((memoryview(frame), descriptor))
        self._unsent_bytes += len(frame)
        if self._unsent_bytes > _UNSENT_BYTES:
            raise refusal(Refusal.BUSY, f"a peer leaves {self._unsent_bytes} bytes unread")
        self.flush()

    def flush(self) -> None:
        """Send what `send` has kept.

        Raises:
            ConnectionError: the peer is gone.
        """
        while self._unsent:
            data, descriptor = self._unsent[0]
            try:
                if descriptor is None:
                    n_bytes = self.socket.send(data, socket.MSG_NOSIGNAL)
                else:
                    n_bytes = socket.send_fds(self.socket, [data], [descriptor.fileno()], socket.MSG_NOSIGNAL)
                    descriptor.close()
            except BlockingIOError:
                return
            self._unsent_bytes -= n_bytes
            if n_bytes < len(data):
                self._unsent[0] = (data[n_bytes:], None)
            else:
                self._unsent.popleft()

    @property
    def unsent(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._unsent)

    def forget(self) -> None:
        """Drop what waits to be sent, and close each descriptor that was not passed on."""
        for _, descriptor in self._unsent:
            if descriptor is not None:
                descriptor.close()
        self._unsent.clear()

    def close(self) -> None:
        """Close the socket."""
        self.forget()
        self.socket.close()
