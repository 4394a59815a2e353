"""A host that meddles: it stands where the real one stands, sees every frame and may do with it what it likes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from sectum.hetee.wire.header import HEADER_BYTES, Header, parse

UP, DOWN = "up", "down"


@dataclass(frozen=True)
class Seen:
    """A frame on its way.

    Attributes:
        direction: `UP` from the client, `DOWN` to it.
        header: parsed.
        data: header and payload.
    """

    direction: str
    header: Header
    data: bytes


Tamper = Callable[[Seen, "HostileHost"], Iterable[bytes] | None]
"""What goes on in place of a frame; None closes both sides."""


def honest(seen: Seen, _host: HostileHost) -> Iterable[bytes]:
    """Forward as it is."""
    return [seen.data]


class HostileHost:
    """Listens on the loopback interface, and forwards to a real host through `Tamper`.

    Args:
        port: of the real host.
        address: of the real host.
        meddle: what is done to each frame.

    Attributes:
        seen: all frames so far, in both directions.
        traffic: all bytes so far, as they came.
    """

    def __init__(self, port: int, tamper: Tamper = honest, *, address: str = "127.0.0.1") -> None:
        self._target, self._tamper = (address, port), tamper
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.seen: list[Seen] = []
        self._client: socket.socket | None = None
        self._service: socket.socket | None = None

    @property
    def url(self) -> str:
        """Where clients are lured."""
        return f"hetee://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def traffic(self) -> bytes:
        """Everything that it has seen."""
        return b"".join(seen.data for seen in self.seen)

    def __enter__(self) -> HostileHost:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # also ends the thread that waits for connections
        self._listener.close()
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                service = socket.create_connection(self._target)
                self._sockets += [client, service]
                self._client, self._service = client, service
                for direction, source, sink in ((UP, client, service), (DOWN, service, client)):
                    threading.Thread(target=self._forward, args=(direction, source, sink), daemon=True).start()

    def _forward(self, direction: str, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while True:
                head = _exactly(source, HEADER_BYTES)
                if head is None:
                    break
                header = parse(head)
                payload = _exactly(source, header.length)
                if payload is None:
                    break
                seen = Seen(direction, header, head + payload)
                self.seen.append(seen)
                replaced = self._tamper(seen, self)
                if replaced is None:
                    break
                for data in replaced:
                    sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def send(self, direction: str, data: bytes) -> None:
        """Send something of its own."""
        sink = self._service if direction == UP else self._client
        assert sink is not None
        with suppress(OSError):
            sink.sendall(data)


def _exactly(source: socket.socket, n_bytes: int) -> bytes | None:
    data = b""
    while len(data) < n_bytes:
        part = source.recv(min(n_bytes - len(data), 1 << 20))
        if not part:
            return None
        data += part
    return data
