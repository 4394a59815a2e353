"""Operators get counts in the formats that their tools read."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sectum.hetee.errors import Refusal, ServiceRefused
from sectum.hetee.host.counts import Counts, ask_controller
from sectum.hetee.host.metrics import exposition, of_state
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.kinds import Kind, Plane
from sectum.hetee.wire.messages import State, WorkerStatus, encode

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
)


def test_a_state_becomes_samples() -> None:
    """Workers are counted by state, accelerators by kind, and only those that serve have samples of their own."""
    samples = {(name, tuple(labels.values())): value for name, labels, value in of_state(STATE)}
    assert samples["workers", ("serving",)] == 1
    assert samples["accelerators_owned", ("cpu",)] == 2
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
    for plane in (Plane.DATA, Plane.CONTROL):
        counts.forwarded("in", plane, 100)
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
