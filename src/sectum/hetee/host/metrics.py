"""An HTTP server for operators: ``/metrics`` for Prometheus, ``/health`` for probes, ``/state`` for `hetee top`."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseServer
from typing import Any

import msgspec

from sectum.hetee.errors import HeteeError
from sectum.hetee.host.counts import Counts, ask_controller
from sectum.hetee.wire.messages import State

_PLACES = 32  # operators that are answered at a time
_HELP = {
    "up": "1 if the controller answers",
    "connections_total": "Client connections since the start of the host",
    "connections_open": "Client connections that are open",
    "frames_total": "Frames forwarded whole, by direction as seen from the service, and by class",
    "bytes_total": "Bytes of these frames, including headers",
    "refused_total": "Frames and connections that the host refused, by code",
    "sessions": "Sessions that are open",
    "waiting": "Sessions that wait for an enclave",
    "draining": "1 while the service is being stopped",
    "workers": "Workers by state",
    "accelerators_owned": "Accelerators that workers own, by kind",
    "worker_batches_total": "Batches that a worker computed",
    "worker_images_total": "Images or rows in these batches",
    "worker_bytes_total": "Plaintext bytes that a worker opened and sealed",
    "worker_open_streams": "Models and batches that a worker has not answered yet",
}
_STATES = ("spare", "assigned", "serving", "draining", "wiped")


def of_state(state: State) -> list[tuple[str, dict[str, str], float]]:
    """A controller's counts as (metric, labels, value)."""
    found: list[tuple[str, dict[str, str], float]] = [
        ("sessions", {}, state.sessions),
        ("waiting", {}, state.waiting),
        ("draining", {}, state.draining),
    ]
    found += [("workers", {"state": name}, sum(w.state == name for w in state.workers)) for name in _STATES]
    owned = [name.partition(":")[0] for worker in state.workers for name in worker.accelerators]
    found += [("accelerators_owned", {"kind": kind}, owned.count(kind)) for kind in sorted(set(owned))]
    for worker in state.workers:
        if worker.state != "spare":
            labels = {"worker": str(worker.index)}
            found += [
                ("worker_batches_total", labels, worker.batches),
                ("worker_images_total", labels, worker.images),
                ("worker_bytes_total", labels, worker.bytes),
                ("worker_open_streams", labels, worker.open_streams),
            ]
    return found


def exposition(samples: Iterable[tuple[str, dict[str, str], float]]) -> str:
    """Write samples in Prometheus' text format, version 0.0.4. Labels hold no characters that need escaping."""
    lines, described = [], set()
    for metric, labels, value in sorted(samples, key=lambda sample: sample[0]):
        name = f"sectum_hetee_{metric}"
        if metric not in described:
            described.add(metric)
            lines += [
                f"# HELP {name} {_HELP[metric]}",
                f"# TYPE {name} {'counter' if metric.endswith('_total') else 'gauge'}",
            ]
        inside = ",".join(f'{key}="{text}"' for key, text in labels.items())
        lines.append(f"{name}{{{inside}}} {value:.15g}" if inside else f"{name} {value:.15g}")
    return "\n".join(lines) + "\n"


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    protocol_version = "HTTP/1.1"
    timeout = 5

    def do_GET(self) -> None:
        state, why = None, "ok"
        try:
            state = ask_controller(self.server.controller)
        except HeteeError as error:
            why = str(error)
        if self.path == "/metrics":
            samples = [*self.server.counts.samples(), ("up", {}, state is not None)]
            self._answer(200, exposition(samples + (of_state(state) if state else [])), "text/plain; version=0.0.4")
        elif self.path == "/health":
            self._answer(200 if state else 503, why + "\n", "text/plain")
        elif self.path == "/state":
            body = {"host": self.server.counts.json(), "error": None if state else why}
            self._answer(200, json.dumps(body | {"controller": state and _plain(state)}) + "\n", "application/json")
        else:
            self._answer(404, "not found; use /metrics, /health or /state\n", "text/plain")

    def _answer(self, status: int, body: str, kind: str) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Log nothing for a scrape."""


def _plain(state: State) -> object:
    return msgspec.to_builtins(state)


class MetricsServer(ThreadingHTTPServer):
    """Serves the counts of a host and its controller.

    Args:
        listener: socket on which operators connect.
        counts: counters of the host.
        controller: Unix socket of the controller.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, listener: socket.socket, counts: Counts, controller: Path) -> None:
        self.counts, self.controller = counts, controller
        self._places = threading.BoundedSemaphore(_PLACES)
        # Not `TCPServer.__init__`: it makes a socket, which a confined host may not.
        BaseServer.__init__(self, listener.getsockname()[:2], _Handler)
        self.socket = listener
        self.server_name, self.server_port = "localhost", listener.getsockname()[1]

    def process_request(self, request: Any, address: Any) -> None:
        """Answer in a thread of its own, unless too many operators are being answered."""
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
        """Log nothing if a client disconnects before the answer."""
