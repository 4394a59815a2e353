"""Tells clients and operators what racks a pool has: an HTTP server with ``/racks``, ``/state`` and ``/health``."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import msgspec

from sectum.errors import UsageError
from sectum.hetee.inventory import Inventory
from sectum.hetee.pool.protocol import Pool

_PLACES = 32  # callers that are answered at a time


class _Handler(BaseHTTPRequestHandler):
    server: PoolServer
    protocol_version = "HTTP/1.1"
    timeout = 5

    def do_GET(self) -> None:
        inventory = self.server.inventory()
        serving = sum(rack.healthy for rack in inventory.racks)
        if self.path in ("/racks", "/state"):
            self._answer(200, msgspec.json.encode(inventory) + b"\n", "application/json")
        elif self.path == "/health":
            said = f"{serving} of {len(inventory.racks)} racks serve\n"
            self._answer(200 if serving else 503, said.encode(), "text/plain")
        else:
            self._answer(404, b"not found; use /racks, /state or /health\n", "text/plain")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing for a request."""


class PoolServer(ThreadingHTTPServer):
    """Serves the inventory of a pool, in threads of its own, until `close`.

    Args:
        address: ``host:port``.
        kind: the kind of the pool.
        pool: whose inventory it is.

    Raises:
        UsageError: it cannot listen there.
    """

    daemon_threads = True

    def __init__(self, address: str, kind: Literal["local", "ray"], pool: Pool) -> None:
        self._kind, self._pool = kind, pool
        self._places = threading.BoundedSemaphore(_PLACES)
        host, _, port = address.rpartition(":")
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host.strip("[]"), int(port)), _Handler)
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot listen on {address}: {error}") from None
        threading.Thread(target=self.serve_forever, name="inventory", daemon=True).start()

    def inventory(self) -> Inventory:
        """The inventory now."""
        return Inventory(self._kind, self._pool.racks()[:256])

    def process_request(self, request: Any, address: Any) -> None:
        """Answer in a thread of its own, or not at all if too many callers are being answered."""
        if self._places.acquire(blocking=False):
            super().process_request(request, address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, address: Any) -> None:
        """Answer, and give the place free."""
        try:
            super().process_request_thread(request, address)
        finally:
            self._places.release()

    def handle_error(self, *_: object) -> None:
        """Log nothing if a caller disconnects before the answer."""

    def close(self) -> None:
        """Stop serving."""
        self.shutdown()
        self.server_close()
