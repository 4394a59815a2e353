"""Operators get counts in the formats that their tools read."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import threading
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sectum.hetee.errors import Refusal, ServiceRefused
from sectum.hetee.host.__main__ import _connections
from sectum.hetee.host.counts import Counts, ask_controller
from sectum.hetee.host.metrics import MetricsServer, exposition, of_state
from sectum.hetee.host.page import read_page
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import encode
from sectum.hetee.wire.state import AcceleratorStatus, JobStatus, State, WorkerStatus

STATE = State(
    workers=(
        WorkerStatus(index=1, state="spare", accelerators=(), open_streams=0, batches=0, images=0, bytes=0),
        WorkerStatus(
            index=2, state="serving", accelerators=("cpu:0", "cpu:1"), open_streams=3, batches=7, images=28, bytes=9
        ),
    ),
    waiting=4,
    sessions=5,
    draining=False,
    accelerators=(
        AcceleratorStatus(name="cpu:0", world="secure", owner=2),
        AcceleratorStatus(name="cpu:1", world="secure", owner=2),
        AcceleratorStatus(name="cpu:2", world="insecure", owner=9),
    ),
    jobs=(
        JobStatus(index=9, state="running", accelerator="cpu", count=1, priority=-1),
        JobStatus(index=12, state="waiting", accelerator="cpu", count=3, priority=2),
    ),
    preemptions=6,
)


def test_a_state_becomes_samples() -> None:
    """Workers and jobs are counted by state, accelerators by world; only workers that serve have their own samples."""
    samples = {(name, tuple(labels.values())): value for name, labels, value in of_state(STATE)}
    assert samples["workers", ("serving",)] == 1
    assert [samples["accelerators", ("cpu", world)] for world in ("secure", "insecure", "free")] == [2, 1, 0]
    assert [samples["jobs", (name,)] for name in ("waiting", "running", "ending")] == [1, 1, 0]
    assert samples["preemptions_total", ()] == 6
    assert samples["worker_images_total", ("2",)] == 28
    assert ("worker_images_total", ("1",)) not in samples
    assert samples["waiting", ()] == 4


@given(st.integers(0, 1 << 53))
def test_a_count_is_written_in_full(count: int) -> None:
    """A counter of any size is read back as the number that it is, up to 15 digits."""
    text = exposition([("bytes_total", {"direction": "in", "plane": "data"}, count)])
    name, value = text.splitlines()[-1].rsplit(" ", 1)
    assert name == 'sectum_hetee_bytes_total{direction="in",plane="data"}'
    assert float(value) == pytest.approx(count, rel=1e-14)


def test_every_metric_is_explained_once() -> None:
    """HELP and TYPE come before the first sample of a metric, and once."""
    counts = Counts()
    counts.connected()
    counts.forwarded("in", [Header(Kind.CHUNK, 100), Header(Kind.PING, 100)])
    counts.refused(Refusal.BUSY)
    lines = exposition([*counts.samples(), *of_state(STATE)]).splitlines()
    told = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(told) == len(set(told))
    seen: set[str] = set()
    for line in lines:
        if line.startswith("# TYPE"):
            seen.add(line.split()[2])
        elif not line.startswith("#"):
            assert line.partition("{")[0].partition(" ")[0] in seen


def serve(path: Path, answer: bytes) -> threading.Thread:
    """A controller that answers one connection with these bytes."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def run() -> None:
        peer, _ = listener.accept()
        with peer, listener:
            peer.recv(1024)
            peer.sendall(answer)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_controller_is_asked_and_believed(tmp_path: Path) -> None:
    """STATUS is answered by STATE."""
    thread = serve(tmp_path / "socket", plain_frame(Kind.STATE, encode(STATE)))
    assert ask_controller(tmp_path / "socket") == STATE
    thread.join()


@pytest.mark.parametrize("answer", [b"", b"x" * 64, plain_frame(Kind.ERROR, b"\x80")])
def test_a_controller_that_answers_nonsense_is_lost(tmp_path: Path, answer: bytes) -> None:
    """A missing or invalid answer gives CONTROLLER_LOST, and the host does not crash."""
    thread = serve(tmp_path / "socket", answer)
    with pytest.raises(ServiceRefused) as caught:
        ask_controller(tmp_path / "socket")
    assert caught.value.code is Refusal.CONTROLLER_LOST
    thread.join()
    with pytest.raises(ServiceRefused):
        ask_controller(tmp_path / "nobody")


def health(path: Path, state: State, full: Callable[[], bool] = lambda: False, slow: int = 0) -> tuple[int, str]:
    """What a host says of its health, whose controller gives this state; ``slow`` operators say nothing meanwhile."""
    path.unlink(missing_ok=True)
    thread = serve(path, plain_frame(Kind.STATE, encode(state)))
    server = MetricsServer(socket.create_server(("127.0.0.1", 0)), Counts(), path, full)
    running = threading.Thread(target=server.serve_forever)
    running.start()
    silent = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(slow)]
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
        for one in silent:
            one.close()
        server.shutdown()
        running.join()
        server.server_close()
        thread.join()


def test_health_says_whether_a_new_client_is_served(tmp_path: Path) -> None:
    """Health is 200 only if a new client could be served; it names each problem, and each warning."""
    path = tmp_path / "socket"
    assert health(path, STATE) == (200, "ok\n")
    warned = msgspec.structs.replace(STATE, warnings=("it expires",))
    assert health(path, warned) == (200, "ok; it expires\n")
    bad = msgspec.structs.replace(warned, problems=("no worker", "no place"))
    assert health(path, bad) == (503, "no worker; no place\n")
    assert health(path, STATE, lambda: True) == (503, "sessions have taken all connections\n")


def test_the_page_runs_nothing_but_its_own_script() -> None:
    """The page's policy has the hashes of its one script and its one style, and allows no address but its own."""
    page = read_page()
    policy = page.headers["Content-Security-Policy"]
    (script,) = re.findall(rb"<script>(.*?)</script>", page.html, re.DOTALL)
    assert f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" in policy
    assert "default-src 'none'; connect-src 'self'" in policy
    assert "unsafe" not in policy
    assert re.findall(rb"https?://[^\"]*", page.html) == [b"http://www.w3.org/2000/svg"]
    assert not re.search(rb"innerHTML|\bon\w+=|style=|<link|<img|src=", page.html)


def test_operators_that_say_nothing_keep_no_other_one_waiting(tmp_path: Path) -> None:
    """With more silent connections than places, the next operator is answered at once."""
    assert health(tmp_path / "socket", STATE, slow=100) == (200, "ok\n")


def test_connections_fit_the_limit_on_descriptors() -> None:
    """A host takes no more connections than it has descriptors for."""
    assert [_connections(320, files) for files in (20_000, 1024, 100)] == [320, 72, 1]
