"""A host that forwards a number of bytes and then goes silent: it reads nothing, writes nothing, and closes nothing."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from types import TracebackType


class SilentHost:
    """Listens on the loopback interface, forwards to a real host, and goes silent.

    Args:
        port: port of the real host.
        up: number of bytes from the client after which it goes silent; None for no limit.
        down: the same for bytes to the client.
        window_bytes: how much the kernel takes of what the client sends while it is silent; 0 for as much as usual.

    Attributes:
        silent: set when it forwards nothing more.
    """

    def __init__(self, port: int, *, up: int | None = None, down: int | None = None, window_bytes: int = 0) -> None:
        self._target, self._left = port, {"up": up, "down": down}
        self._listener = socket.create_server(("127.0.0.1", 0))
        if window_bytes:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window_bytes)
        self._sockets: list[socket.socket] = []
        self.silent = threading.Event()

    @property
    def url(self) -> str:
        """The address that a client is lured to."""
        return f"hetee://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> SilentHost:
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.silent.set()
        self._listener.close()
        for each in self._sockets:
            each.close()

    def _run(self) -> None:
        with suppress(OSError, ValueError):
            client, _ = self._listener.accept()
            service = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [client, service]
            ways = {client: ("up", service), service: ("down", client)}
            while not self.silent.is_set():
                for source in select.select(list(ways), [], [], 0.05)[0]:
                    if self.silent.is_set():
                        return
                    self._forward(source, *ways[source])

    def _forward(self, source: socket.socket, direction: str, sink: socket.socket) -> None:
        left = self._left[direction]
        data = source.recv(1 << 16 if left is None else max(1, min(left, 1 << 16)))
        if not data:
            raise ConnectionResetError("ended")
        if left is not None:
            if left == 0:  # this byte is kept
                self.silent.set()
                return
            self._left[direction] = left - len(data)
        sink.sendall(data)
        if self._left[direction] == 0:
            self.silent.set()
