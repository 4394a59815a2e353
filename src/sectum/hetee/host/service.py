"""The host's process: listens, and makes a relay for each connection."""

from __future__ import annotations

import selectors
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from sectum.hetee.errors import Refusal
from sectum.hetee.host.counts import Counts
from sectum.hetee.host.metrics import MetricsServer
from sectum.hetee.host.relay import Relay
from sectum.hetee.host.sockets import connect_unix
from sectum.hetee.role_log import log_event
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Failure, encode

_UNREAD_MS = 20_000
_BACK_OFF_S = 0.05


def log(event: str, **fields: object) -> None:
    """Log an event of this process."""
    log_event("host", event, **fields)


class HostService:
    """Listens for clients until it is stopped.

    Args:
        listener: socket on which clients connect.
        controller: Unix socket of the controller.
        connections: largest number of connections at a time.
    """

    def __init__(self, listener: socket.socket, controller: Path, connections: int = 256) -> None:
        self.counts = Counts()
        self._listener, self._controller, self._connections = listener, controller, connections
        self._relays: set[Relay] = set()
        self._lock = threading.Lock()
        self._woken, self._waker = socket.socketpair()

    def run(self, metrics: MetricsServer | None) -> None:
        """Serve until `stop`."""
        if metrics is not None:
            threading.Thread(target=metrics.serve_forever, name="metrics", daemon=True).start()
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while all(key.fileobj is not self._woken for key, _ in selector.select()):
                try:
                    client, address = self._listener.accept()
                    threading.Thread(target=self._serve, args=(client, address), name="from-client").start()
                except (OSError, RuntimeError) as error:  # no descriptor or no thread is left: wait until one is
                    log("cannot_accept", why=str(error))
                    self._end_oldest_stranger()
                    time.sleep(_BACK_OFF_S)
        self._listener.close()
        if metrics is not None:
            metrics.shutdown()
            metrics.server_close()
        with self._lock:
            for relay in self._relays:
                relay.end()

    def full(self) -> bool:
        """Whether sessions have taken all places, so that no other client can connect."""
        with self._lock:
            return sum(relay.accepted for relay in self._relays) >= self._connections

    def stop(self) -> None:
        """End all connections, and make `run` return."""
        with suppress(OSError):
            self._waker.send(b"\0")

    def _serve(self, client: socket.socket, address: tuple[str, int]) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A client that reads nothing, or is gone, holds its relay no longer than this.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MS)
        # When all places are taken, a connection that waits for its session gives way.
        if len(self._relays) >= self._connections and not self._end_oldest_stranger():
            self._turn_away(client, Refusal.BUSY, f"{self._connections} connections are open, the limit")
            return
        try:
            controller = connect_unix(self._controller)
        except OSError:
            self._turn_away(client, Refusal.CONTROLLER_LOST, "the controller does not listen")
            return
        relay = Relay(client, controller, self.counts, address[0])
        self.counts.connected()
        log("connected", peer=address[0])
        with self._lock:
            self._relays.add(relay)
        try:
            relay.run()
        finally:
            with self._lock:
                self._relays.discard(relay)
            self.counts.disconnected()
            log("disconnected", peer=address[0])

    def _end_oldest_stranger(self) -> bool:
        """End the oldest connection without a session of the address that has most; returns False if there is none."""
        with self._lock:
            strangers = [relay for relay in self._relays if not relay.accepted]
            crowds = Counter(relay.peer for relay in strangers)
            oldest = min(strangers, key=lambda relay: (-crowds[relay.peer], relay.begun_s), default=None)
            if oldest is not None:
                self._relays.discard(oldest)
        if oldest is not None:
            oldest.end()
        return oldest is not None

    def _turn_away(self, client: socket.socket, code: Refusal, detail: str) -> None:
        self.counts.refused(code)
        with client, suppress(OSError):
            client.settimeout(1.0)
            client.sendall(plain_frame(Kind.ERROR, encode(Failure(code=code, detail=detail))))
            client.shutdown(socket.SHUT_WR)
            client.recv(2048)  # closing with unread bytes would reset the connection and lose the answer


def stop_on_signals(service: HostService) -> None:
    """Stop a service on SIGTERM or SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
