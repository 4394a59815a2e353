"""An HTTP server for operators: a page, ``/metrics`` for Prometheus, ``/health`` for probes, ``/state`` as JSON."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseServer
from types import MappingProxyType
from typing import Any

import msgspec

from sectum.hetee.errors import HeteeError
from sectum.hetee.host.counts import Counts, ask_controller
from sectum.hetee.host.page import Page
from sectum.hetee.wire.state import State

_PLACES = 32  # operators that are answered at a time
_BACK_OFF_S = 0.05
_FULL = "sessions have taken all connections"
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
    "problems": "Reasons why no new client can be served; /health names them",
    "workers": "Workers by state",
    "accelerators": "Accelerators by kind and world: free, resetting, secure, insecure, or withheld",
    "jobs": "Jobs of the insecure world by state",
    "preemptions_total": "Times that a job was told to give its accelerators back",
    "worker_batches_total": "Batches that a worker computed",
    "worker_images_total": "Images or rows in these batches",
    "worker_bytes_total": "Plaintext bytes that a worker opened and sealed",
    "worker_open_streams": "Models and batches that a worker has not answered yet",
}
_STATES = ("spare", "assigned", "serving", "draining", "wiped")
_WORLDS = ("free", "resetting", "secure", "insecure", "withheld")
_JOBS = ("waiting", "running", "ending")


def of_state(state: State) -> list[tuple[str, dict[str, str], float]]:
    """A controller's counts as (metric, labels, value)."""
    found: list[tuple[str, dict[str, str], float]] = [
        ("sessions", {}, state.sessions),
        ("waiting", {}, state.waiting),
        ("draining", {}, state.draining),
        ("problems", {}, len(state.problems)),
        ("preemptions_total", {}, state.preemptions),
    ]
    found += [("workers", {"state": name}, sum(w.state == name for w in state.workers)) for name in _STATES]
    worlds: list[tuple[str, str]] = [(one.name.partition(":")[0], one.world) for one in state.accelerators]
    found += [
        ("accelerators", {"kind": kind, "world": world}, worlds.count((kind, world)))
        for kind in sorted({kind for kind, _ in worlds})
        for world in _WORLDS
    ]
    found += [("jobs", {"state": name}, sum(job.state == name for job in state.jobs)) for name in _JOBS]
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
        page = self.server.page
        if self.path == "/" and page is not None:
            self._answer(200, page.html.decode(), "text/html; charset=utf-8", page.headers)
            return
        state, why = None, "ok"
        try:
            state = ask_controller(self.server.controller)
        except HeteeError as error:
            why = str(error)
        if self.path == "/metrics":
            samples = [*self.server.counts.samples(), ("up", {}, state is not None)]
            self._answer(200, exposition(samples + (of_state(state) if state else [])), "text/plain; version=0.0.4")
        elif self.path == "/health":
            problems = [*(state.problems if state else (why,)), *([_FULL] if self.server.full() else [])]
            said = problems or [f"ok; {warning}" for warning in (state.warnings if state else ())] or ["ok"]
            self._answer(503 if problems else 200, "; ".join(said) + "\n", "text/plain")
        elif self.path == "/state":
            body = {"host": self.server.counts.json(), "error": None if state else why}
            self._answer(200, json.dumps(body | {"controller": state and _plain(state)}) + "\n", "application/json")
        else:
            self._answer(404, "not found; use /, /metrics, /health or /state\n", "text/plain")

    def _answer(self, status: int, body: str, kind: str, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
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
        full: whether no other client can connect.
        page: the page for operators; None for none.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        listener: socket.socket,
        counts: Counts,
        controller: Path,
        full: Callable[[], bool] = lambda: False,
        page: Page | None = None,
    ) -> None:
        self.counts, self.controller, self.full, self.page = counts, controller, full, page
        self._answered: dict[socket.socket, None] = {}  # connections of operators, oldest first
        self._lock = threading.Lock()
        # Not `TCPServer.__init__`: it makes a socket, which a confined host may not.
        BaseServer.__init__(self, listener.getsockname()[:2], _Handler)
        self.socket = listener
        self.server_name, self.server_port = "localhost", listener.getsockname()[1]

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; if no descriptor is left, wait a little before the next try."""
        try:
            return self.socket.accept()
        except OSError:
            time.sleep(_BACK_OFF_S)
            raise

    def process_request(self, request: Any, address: Any) -> None:
        """Answer in a thread of its own. If too many operators are being answered, the oldest one gives way."""
        with self._lock:
            for oldest in list(self._answered)[: max(0, len(self._answered) - _PLACES + 1)]:
                del self._answered[oldest]
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)  # its thread then ends
            self._answered[request] = None
        super().process_request(request, address)

    def process_request_thread(self, request: Any, address: Any) -> None:
        """Answer, and give the place free."""
        try:
            super().process_request_thread(request, address)
        finally:
            with self._lock:
                self._answered.pop(request, None)

    def handle_error(self, *_: object) -> None:
        """Log nothing if a client disconnects before the answer."""
