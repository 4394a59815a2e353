"""The client's connection to a host: the handshake, then frames in both directions."""

from __future__ import annotations

import fcntl
import re
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sectum.hetee.channel.handshake import EstablishedSession
from sectum.hetee.client.handshake import ClientHandshake
from sectum.hetee.client.liveness import LOST_AFTER_S, SLOWEST_BYTES_PER_S
from sectum.hetee.client.trust import Trust
from sectum.hetee.errors import HeteeError, Refusal, Scope, refusal
from sectum.hetee.wire.frames import Frame, FrameReader
from sectum.hetee.wire.kinds import DOWNSTREAM, Kind
from sectum.hetee.wire.messages import Failure, decode

PORT = 7625
HANDSHAKE_S = 10.0
_STEP_S = 0.1  # the kernel returns from a blocked write after this time
_STARVED_S = 0.5  # a write that took longer to return says that this process was not scheduled
_URL = re.compile(r"(?:hetee://)?(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<name>[^:/\[\]]+))(?::(?P<port>\d{1,5}))?/?")


def parse_url(url: str) -> tuple[str, int]:
    """Parse ``hetee://host:port``. The scheme and the port are optional.

    Raises:
        ServiceRefused: it is not such a URL.
    """
    match = _URL.fullmatch(url)
    port = int(match["port"] or PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise refusal(Refusal.HOST_LOST, f"'{url}' is not an address: write for example hetee://127.0.0.1:{PORT}")
    return match["six"] or match["name"], port


class Connection:
    """A connection to a host, and through it to a controller whose evidence was accepted.

    Args:
        url: address of the host.
        trust: verifies and validates evidence.
        identity: the owner's key.
        timeout_s: time limit for connecting, and for the handshake.

    Attributes:
        session: the established session, with the keys of the control channel.
    """

    def __init__(self, url: str, trust: Trust, identity: Ed25519PrivateKey, timeout_s: float = HANDSHAKE_S) -> None:
        self._lock = threading.Lock()
        self._hint: Failure | None = None
        self._sent_bytes = 0
        self._stalled: HeteeError | None = None  # set when a write got nowhere; nothing is sent after it
        self._until_s = float("inf")  # time limit for receiving
        self._reader = FrameReader(DOWNSTREAM, self._receive)
        address = parse_url(url)
        try:
            self._socket = socket.create_connection(address, timeout_s)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or error
            detail = f"no service answers at {address[0]}:{address[1]} ({why})"
            raise refusal(Refusal.HOST_LOST, detail) from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.session = self._handshake(trust, identity, time.monotonic() + timeout_s)
        except HeteeError:
            self._socket.close()
            raise
        self._until_s = float("inf")
        self._socket.settimeout(None)
        # Blocking writes return after a step, and `_write` decides whether to go on.
        step = struct.pack("ll", 0, int(_STEP_S * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, step)

    def _handshake(self, trust: Trust, identity: Ed25519PrivateKey, until_s: float) -> EstablishedSession:
        handshake = ClientHandshake(identity, trust.check_controller)
        self._until_s = until_s
        try:
            self._socket.sendall(handshake.hello())
            frame = self._next()
            self._socket.sendall(handshake.receive(frame))
        except TimeoutError:
            raise refusal(
                Refusal.HANDSHAKE_LATE, f"the service was silent for {LOST_AFTER_S:g} s, or too slow"
            ) from None
        except OSError as error:
            raise self.ended(error) from None
        assert handshake.session is not None
        return handshake.session

    def _next(self) -> Frame:
        """Receive the next frame that is not an ERROR."""
        while True:
            frame = self._reader.next()
            if frame is None:
                raise self.ended(None)
            if not self._take_hint(frame):
                return frame

    def _receive(self, memory: memoryview, whole: bool) -> int:
        if self._until_s < float("inf"):  # one limit for all bytes, however slowly a host sends them; one for silence
            left_s = self._until_s - time.monotonic()
            if left_s <= 0:  # also when there is always something to receive
                raise TimeoutError
            self._socket.settimeout(min(left_s, LOST_AFTER_S))
        return self._socket.recv_into(memory, 0, socket.MSG_WAITALL if whole else 0)

    def _take_hint(self, frame: Frame) -> bool:
        """Remember an ERROR. It is not authenticated, so it only explains why a connection ended."""
        if frame.header.kind is not Kind.ERROR:
            return False
        hint = decode(frame.payload, Failure)
        # NO_ROUTE, for example, ends no connection. BUSY does here: there is no session whose request it is about.
        if hint.code.scope is Scope.CONNECTION or hint.code is Refusal.BUSY:
            self._hint = hint
        return True

    def ended(self, error: Exception | None) -> HeteeError:
        """The reason for the connection's end, as far as it is known."""
        if self._hint is not None:
            return refusal(self._hint.code, f"{self._hint.detail} (the host says so; this is not authenticated)")
        why = f": {error}" if error is not None else ""
        return refusal(Refusal.HOST_LOST, f"the connection to the host ended{why}")

    def frames(self, take: Callable[[Frame], None]) -> HeteeError:
        """Pass frames to ``take`` until the connection ends or ``take`` raises; returns the reason."""
        try:
            while frame := self._reader.next():
                if not self._take_hint(frame):
                    take(frame)
            return self.ended(None)
        except HeteeError as error:
            if error.code is Refusal.TRUNCATED:
                return self.ended(error)
            return error
        except OSError as error:
            return self.ended(error)

    def send(self, seal: Callable[[], bytes | bytearray | memoryview]) -> None:
        """Seal a frame and send it under one lock, so that records are sent in the order in which they were sealed.

        Raises:
            ServiceRefused: ``HOST_LOST``, also if the host takes nothing for two seconds, or takes bytes too slowly.
            HeteeError: from ``seal``.
        """
        with self._lock:
            if self._stalled is not None:
                raise self._stalled
            frame = seal()
            try:
                self._write(memoryview(frame))
            except OSError as error:
                raise self.ended(error) from None
            self._sent_bytes += len(frame)

    def _write(self, data: memoryview) -> None:
        """Write all of ``data`` while the host takes bytes.

        Raises:
            ServiceRefused: ``HOST_LOST``, the host does not; the connection is then shut down for all threads.
            OSError: the connection ended.
        """
        begun_s = moved_s = now_s = time.monotonic()
        until_s = begun_s + LOST_AFTER_S + len(data) / SLOWEST_BYTES_PER_S
        waiting_bytes = -1
        while len(data):
            try:
                data = data[self._socket.send(data, socket.MSG_NOSIGNAL) :]
                moved = True
            except BlockingIOError:
                before, waiting_bytes = waiting_bytes, self._unacknowledged_bytes()
                moved = waiting_bytes < before
            before_s, now_s = now_s, time.monotonic()
            if moved or now_s > before_s + _STARVED_S:
                moved_s = now_s
            if len(data) and (now_s > moved_s + LOST_AFTER_S or now_s > until_s):
                what = f"took nothing for {LOST_AFTER_S:g} s" if now_s <= until_s else "takes bytes too slowly"
                self._stalled = refusal(Refusal.HOST_LOST, f"the host {what}")
                self.shutdown()
                raise self._stalled

    @property
    def sent_bytes(self) -> int:
        """Number of bytes passed to the kernel since the handshake."""
        return self._sent_bytes

    def received_bytes(self) -> int:
        """Number of these bytes that the host's kernel has acknowledged."""
        return self._sent_bytes - self._unacknowledged_bytes()

    def _unacknowledged_bytes(self) -> int:
        """Number of bytes in the kernel's buffer that the host's kernel has not acknowledged."""
        try:
            return int(struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))[0])
        except OSError:
            return 0

    def shutdown(self) -> None:
        """Shut the connection down, which ends `frames`."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket and wipe the keys."""
        self._socket.close()
        self.session.wipe()
