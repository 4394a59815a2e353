"""The controller's process: its socket, its workers as processes, its signals."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from hetee_session_pair import one_frame
from sectum.hetee.attest.evidence import Subject
from sectum.hetee.attest.software_provider import SoftwareProvider
from sectum.hetee.controller.environment import CollectedProcess
from sectum.hetee.controller.frame_socket import FrameSocket
from sectum.hetee.controller.service import ControllerService
from sectum.hetee.controller.settings import Settings
from sectum.hetee.controller.worker_process import WorkerProcess
from sectum.hetee.controller.worker_supervisor import WorkerStart, WorkerSupervisor
from sectum.hetee.errors import FrameRefused, Refusal, ServiceRefused
from sectum.hetee.installation.enter import bind
from sectum.hetee.installation.manufacture import manufacture
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Deadline, Empty, Ping, decode, encode
from sectum.hetee.wire.state import State

# A worker that is born and then does nothing.
SCRIPTED = """
import socket
from sectum.hetee.data_plane.release_key import WorkerKey
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Started, encode
link = socket.socket(fileno=0)
key = WorkerKey().public
started = Started(worker_key=key, receipt_key=key, pid=1, confinement=(), unconfined=())
link.sendall(plain_frame(Kind.STARTED, encode(started)))
while link.recv(65536):
    pass
"""


# Goes on in a child of its parent, as a worker does that gets a PID namespace of its own.
MOVING = """
import ctypes, os, time
CLONE_PARENT, SIGCHLD, CLONE = 0x8000, 17, 56
if ctypes.CDLL(None).syscall(CLONE, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0) == 0:
    time.sleep(0.5)
os._exit(0)
"""
# These signals end no process.
HARMLESS = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
HARMLESS |= {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}


@pytest.fixture
def service(tmp_path: Path) -> tuple[Path, ControllerService]:
    """A controller with scripted workers, in a thread of this process."""
    subject = Subject("controller", "1.0", b"m" * 32)
    path = tmp_path / "run" / "socket"
    made = ControllerService(
        Settings(spares=2),
        SoftwareProvider(manufacture(), subject),
        subject,
        bind(path),
        WorkerStart((sys.executable, "-c", SCRIPTED), dict(os.environ), b"m" * 32),
    )
    return path, made


def ask(path: Path) -> State:
    """The counts that the controller gives."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(5)
        peer.connect(str(path))
        peer.sendall(plain_frame(Kind.STATUS, encode(Empty())))
        data = b""
        while True:
            data += peer.recv(65536)
            try:
                return decode(one_frame(data).payload, State)
            except (FrameRefused, ValueError):
                continue


def soon(true: Callable[[], object]) -> None:
    """Wait until something is true."""
    until_s = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until_s
        time.sleep(0.02)


@pytest.mark.slow
def test_workers_are_started_collected_and_replaced(service: tuple[Path, ControllerService]) -> None:
    """Two spares are kept; one that is killed is collected, no zombie is left, and another one takes its place."""
    path, made = service
    found: list[list[int]] = []

    def tamper() -> None:
        soon(lambda: sum(worker.state == "spare" for worker in ask(path).workers) == 2)
        first = [process.pid for process in made._workers.values()]
        os.kill(first[0], signal.SIGKILL)
        soon(lambda: not Path(f"/proc/{first[0]}").exists())
        soon(lambda: sum(worker.state == "spare" for worker in ask(path).workers) == 2)
        found.append(first)
        found.append([process.pid for process in made._workers.values()])
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=tamper)
    thread.start()
    made.run()
    thread.join()
    before, after = found
    assert before[1] in after
    assert before[0] not in after
    assert not any(Path(f"/proc/{pid}").exists() for pid in after), "all are collected at the end"


DEAF = "import time; time.sleep(600)"
LOUD = "print('the last words')"


def supervisor(tmp_path: Path, script: str) -> ControllerService:
    """A controller that starts workers with this script, and is not running."""
    subject = Subject("controller", "1.0", b"m" * 32)
    start = WorkerStart((sys.executable, "-c", script), dict(os.environ), b"m" * 32)
    return ControllerService(
        Settings(), SoftwareProvider(manufacture(), subject), subject, bind(tmp_path / "run" / "socket"), start
    )


@pytest.mark.slow
def test_a_worker_that_reads_nothing_ends(tmp_path: Path) -> None:
    """A worker that leaves its link unread is killed when the kernel takes no more: nothing piles up for it."""
    made = supervisor(tmp_path, DEAF)
    try:
        made.start(1)
        link, sent = made._links[1], 0
        while 1 in made._links and sent < 100_000:
            made.send_to_worker(1, plain_frame(Kind.WIPE, encode(Deadline(deadline_ms=0))))
            sent += 1
        assert link._unsent_bytes < 1000
        assert 100 < sent < 100_000
        assert made._workers[1].collect().exit == "killed by SIGKILL"
        del made._workers[1]
    finally:
        made._end()


@pytest.mark.slow
def test_the_end_of_a_worker_that_still_writes_is_no_fault(tmp_path: Path) -> None:
    """A worker's end and its last words may be seen in one turn, in any order."""
    made = supervisor(tmp_path, LOUD)
    try:
        made.start(1)
        process = made._workers[1]
        assert process.log is not None
        events = []
        while not {process.pidfd, process.log} <= {key.fd for key, _ in events}:
            events = made._selector.select(0.05)
        for key, event in sorted(events, key=lambda event: event[0].fd != process.pidfd):
            key.data(event)
        assert not made._workers
    finally:
        made._end()


FLOODING = SCRIPTED.replace(
    "while link",
    "import sys\ntry:\n    while True:\n        sys.stderr.write('x' * 65536)\nexcept OSError:\n    pass\nwhile link",
)


@pytest.mark.slow
def test_a_worker_cannot_fill_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Of what a worker writes without end, the controller keeps a limited part, cut into lines."""
    subject = Subject("controller", "1.0", b"m" * 32)
    path = tmp_path / "run" / "socket"
    start = WorkerStart((sys.executable, "-c", FLOODING), dict(os.environ), b"m" * 32)
    made = ControllerService(Settings(spares=1), SoftwareProvider(manufacture(), subject), subject, bind(path), start)

    def watch() -> None:
        soon(lambda: any(worker.state == "spare" for worker in ask(path).workers))
        soon(lambda: all(process.log is None for process in made._workers.values()))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=watch)
    thread.start()
    made.run()
    thread.join()
    logged = capfd.readouterr().err
    assert "worker_log_full" in logged
    assert len(logged) < 1 << 20
    assert all(len(line) < 10_000 and line.startswith("{") for line in logged.splitlines())


class Collecting:
    """In the place of the controller: notes the end of workers, and in which process they went on."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.pids: list[int] = []

    def collected(self, _worker: int, ended: CollectedProcess) -> None:
        self.ended.append(ended.exit)

    def moved(self, _worker: int, pid: int) -> None:
        self.pids.append(pid)


def supervise(script: str, turn: Callable[[Callable[[], None]], None]) -> Collecting:
    """Run a worker until it is collected; ``turn`` surrounds each event."""
    supervisor = WorkerSupervisor(WorkerStart((sys.executable, "-c", script), dict(os.environ), b"m" * 32))
    seen = Collecting()
    supervisor._controller = seen  # type: ignore[assignment]  # what workers do is all that it is told
    supervisor.start(1)

    def collected() -> bool:
        for key, events in supervisor._selector.select(0.02):
            turn(partial(key.data, events))
        return bool(seen.ended)

    soon(collected)
    assert not supervisor._workers
    assert not supervisor._selector.get_map()
    supervisor._selector.close()
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("number", sorted({*range(1, 32), *range(signal.SIGRTMIN, signal.SIGRTMAX + 1)} - HARMLESS))
def test_a_worker_is_collected_whatever_signal_ends_it(number: int) -> None:
    """No signal, also none without a name, leaves a worker uncollected."""
    default = "" if number == signal.SIGKILL else f"signal.signal({number}, signal.SIG_DFL)"
    (ended,) = supervise(f"import os, signal\n{default}\nos.kill(os.getpid(), {number})", lambda act: act()).ended
    assert ended.startswith("killed by ")


@pytest.mark.slow
@pytest.mark.parametrize("script", ["import time; time.sleep(0.2)", MOVING])
def test_a_worker_is_collected_once_descriptors_are_left_again(script: str) -> None:
    """A worker that ends or goes on in a new process while the controller has no descriptor left is not forgotten."""
    failed: list[OSError] = []

    def turn(act: Callable[[], None]) -> None:
        if len(failed) >= 3:
            act()
            return
        limits, held = resource.getrlimit(resource.RLIMIT_NOFILE), []
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, limits[0]), limits[1]))
        try:
            with suppress(OSError):
                while True:
                    held.append(os.open(os.devnull, os.O_RDONLY))
            act()
        except OSError as error:
            failed.append(error)
        finally:
            for descriptor in held:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    seen = supervise(script, turn)
    assert {error.errno for error in failed} == {errno.EMFILE}
    assert seen.ended == ["exit code 0"]
    assert len(seen.pids) == (script is MOVING)


@pytest.mark.slow
def test_a_worker_inherits_two_sockets_and_nothing_else(tmp_path: Path) -> None:
    """A worker inherits its link, its log, its data socket and the allowed environment variables, and nothing else."""
    os.environ["SECTUM_TEST_SECRET"] = "do not pass on"
    program = (
        "import os, socket, sys\n"
        "data = int(sys.argv[2])\n"
        "found = {int(n) for n in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{n}')}\n"
        "told = found == {0, 1, 2, data}, 'SECTUM_TEST_SECRET' in os.environ\n"
        "socket.socket(fileno=0).sendall(repr(told).encode())\n"
        "socket.socket(fileno=data).sendall(b'data')\n"
    )
    try:
        with (tmp_path / "open").open("w") as file:
            os.set_inheritable(file.fileno(), True)
            process = WorkerProcess((sys.executable, "-c", program), {"LANG": "C"})
            assert process.data is not None
            assert process.data.recv(10) == b"data"
            process.link.setblocking(True)
            assert process.link.recv(1000) == b"(True, False)"
            process.collect()
    finally:
        del os.environ["SECTUM_TEST_SECRET"]


def test_a_stream_keeps_what_does_not_go_out_up_to_a_limit() -> None:
    """A peer that does not read gets what fits later, in order; one that lets too much wait is refused."""
    ours, theirs = socket.socketpair()
    stream = FrameSocket(ours, frozenset({Kind.PONG}))
    frames = [plain_frame(Kind.ERROR, bytes([number]) * 60_000) for number in range(6)]
    for frame in frames:
        stream.send(frame)
    assert stream.unsent
    received = b""
    while len(received) < sum(map(len, frames)):
        received += theirs.recv(1 << 20)
        stream.flush()
    assert received == b"".join(frames)

    def send_on() -> None:
        for _ in range(100):
            stream.send(frames[0])

    with pytest.raises(ServiceRefused) as caught:
        send_on()
    assert caught.value.code is Refusal.BUSY
    stream.close()
    theirs.close()


def test_a_descriptor_travels_with_its_frame_and_is_closed_here() -> None:
    """The host gets the worker's socket with ROUTE, and this side keeps no copy."""
    ours, theirs = socket.socketpair()
    kept, passed = socket.socketpair()
    stream = FrameSocket(ours, frozenset())
    stream.send(plain_frame(Kind.ERROR, b"x" * 1000))
    stream.send(plain_frame(Kind.ROUTE, encode(Empty()), stream=1), passed)
    data, descriptors, _, _ = socket.recv_fds(theirs, 64 + 1000, 1)
    while not descriptors:
        more, descriptors, _, _ = socket.recv_fds(theirs, 4096, 1)
        data += more
    assert passed.fileno() == -1
    with socket.socket(fileno=descriptors[0]) as received:
        received.sendall(b"through")
        assert kept.recv(10) == b"through"
    for each in (ours, theirs, kept):
        each.close()


def test_frames_of_another_kind_are_refused() -> None:
    """A peer may send only the types that its role allows."""
    ours, theirs = socket.socketpair()
    theirs.sendall(plain_frame(Kind.ERROR, encode(Ping(number=1))))
    with pytest.raises(FrameRefused):
        list(FrameSocket(ours, frozenset({Kind.STATUS})).frames())
    ours.close()
    theirs.close()


@pytest.mark.slow
def test_a_controller_cannot_be_looked_into() -> None:
    """Core dumps are off, the process is undumpable, and it ends with its parent."""
    program = (
        "from sectum.hetee.confinement.confine import ConfinementReport, confine_controller\n"
        "import resource\n"
        "report = ConfinementReport()\n"
        "confine_controller(report, 0)\n"
        "print('not-dumpable' in report.confinement, resource.getrlimit(resource.RLIMIT_CORE))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "True (0, 0)\n"
    parent = (
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import sys, time\\n"
        "from sectum.hetee.installation.enter import end_with_parent\\n"
        "end_with_parent(int(sys.argv[1])); print(1, flush=True); time.sleep(60)', str(os.getpid())],"
        " stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print(child.pid, flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, timeout=30, check=True)
    pid = int(done.stdout)
    soon(lambda: not Path(f"/proc/{pid}").exists() or "Z (zombie)" in Path(f"/proc/{pid}/status").read_text())
