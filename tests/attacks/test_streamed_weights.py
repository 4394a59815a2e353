"""A host that owns the memory with the sealed weights cannot change what an enclave computes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from plans import evenly
from sectum import zoo
from sectum.enclave.runners.process import ChildSession
from sectum.enclave.runners.runner import Job
from sectum.enclave.runners.softepc import SoftEpcRunner
from sectum.enclave.streaming.sealed_weights import BLOCK_BYTES, MEMORY_NAME, TAG_BYTES
from sectum.errors import EnclaveTampered, EnclaveUnavailable
from sectum.graph import read
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.plan.running import prepared_streams
from sectum.units import MIB

pytestmark = pytest.mark.slow
SEALED_BLOCK = BLOCK_BYTES + TAG_BYTES
OF_THE_RUNTIME = ".ses"
"""A file with an identifier that ONNX Runtime writes wherever it is loaded."""


@pytest.fixture(scope="module", autouse=True)
def enclave() -> None:
    try:
        SoftEpcRunner().check()
    except EnclaveUnavailable as error:
        pytest.skip(f"no software enclave here: {error}")


@pytest.fixture(scope="module", params=[False, True], ids=["float32", "int8"])
def streams(request: pytest.FixtureRequest) -> Iterator[dict]:
    """SqueezeNet in four streamed stages, with weights as they are and as int8."""
    model = read(zoo.to_bytes(zoo.network("squeezenet1_1", resolution=64), batch=1))
    graph = optimize(model.graph, Cpu.here())
    stages = [replace(stage, int8=request.param) for stage in evenly(graph, 4)]
    with prepared_streams(model.bound_bytes(), graph, stages, 1, 8 * MIB) as made:
        yield made


class Host:
    """What the host can do: read and write the memory that it lends the enclave."""

    def __init__(self, pid: int) -> None:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        (line,) = (line for line in lines if MEMORY_NAME in line)
        start, end = (int(text, 16) for text in re.match(r"(\w+)-(\w+) ", line).groups())
        self._start, self.n_bytes = start, end - start
        self._file = os.open(f"/proc/{pid}/mem", os.O_RDWR)

    def read(self) -> bytes:
        """All of it."""
        return os.pread(self._file, self.n_bytes, self._start)

    def write(self, offset: int, content: bytes) -> None:
        """Overwrite a piece."""
        assert os.pwrite(self._file, content, self._start + offset) == len(content)

    def close(self) -> None:
        """Leave the enclave alone."""
        os.close(self._file)


def started(streams: dict) -> ChildSession:
    """An enclave that runs the stages."""
    return SoftEpcRunner().start(Job(model=b"", epc_bytes=16 * MIB, streams=streams))


@contextlib.contextmanager
def attacked(session: ChildSession) -> Iterator[Host]:
    host = Host(session._process.pid)
    try:
        yield host
    finally:
        host.close()


def flip(host: Host) -> None:
    """Change one bit."""
    byte = host.read()[1000]
    host.write(1000, bytes([byte ^ 1]))


def swap(host: Host) -> None:
    """Exchange the first two blocks."""
    memory = host.read()
    host.write(0, memory[SEALED_BLOCK : 2 * SEALED_BLOCK] + memory[:SEALED_BLOCK])


def repeat(host: Host) -> None:
    """Put a copy of the first block in the place of the second."""
    host.write(SEALED_BLOCK, host.read()[:SEALED_BLOCK])


def cut(host: Host) -> None:
    """Empty the memory from the second block on."""
    host.write(SEALED_BLOCK, bytes(host.n_bytes - SEALED_BLOCK))


@pytest.mark.parametrize("attack", [flip, swap, repeat, cut])
def test_changed_weights_end_the_run(streams: dict, attack: Callable[[Host], None]) -> None:
    """Weights that were changed, moved, repeated or cut off end the run with the error of tampered memory."""
    with started(streams) as session, attacked(session) as host:
        session.sample(1)
        attack(host)
        with pytest.raises(EnclaveTampered, match="changed, moved or replaced"):
            session.sample(1)


def test_weights_of_another_run_end_the_run(streams: dict) -> None:
    """The same weights as another enclave sealed them, at the same places, are refused: each run has its own key."""
    with started(streams) as first, attacked(first) as old:
        earlier = old.read()
    with started(streams) as session, attacked(session) as host:
        session.sample(1)
        assert host.read() != earlier
        host.write(0, earlier)
        with pytest.raises(EnclaveTampered):
            session.sample(1)


def test_untouched_weights_are_opened_again_and_again(streams: dict) -> None:
    """Reading the sealed weights changes nothing, and no two enclaves seal them alike."""
    with started(streams) as session, attacked(session) as host:
        digest = session.outputs_digest()
        sealed = host.read()
        session.sample(2)
        assert session.outputs_digest() == digest
        assert host.read() == sealed


def test_a_killed_enclave_leaves_nothing_behind(streams: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sealed weights end with the process, however it ends."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    session = started(streams)
    os.kill(session._process.pid, signal.SIGKILL)
    session.close()
    assert list(tmp_path.iterdir()) == []
    assert not any(MEMORY_NAME in name for root in ("/dev/shm", "/tmp") for name in os.listdir(root))  # noqa: PTH208


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
@pytest.mark.parametrize(
    "while_in", ["sectum.enclave.streaming.written_graph", MEMORY_NAME], ids=["writing", "running"]
)
def test_a_command_that_ends_early_leaves_nothing_behind(tmp_path: Path, while_in: str, end: signal.Signals) -> None:
    """Whether it is killed or interrupted, and when, no file of a plan's run is left, and its processes end."""
    environment = os.environ | {"TMPDIR": str(tmp_path), "SECTUM_HOME": str(tmp_path / "home")}
    words = ["plan", "zoo:squeezenet1_1", "--epc", "5MiB", "--measure", "--runs", "90000", "--deadline", "600"]
    command_line = [sys.executable, "-m", "sectum.cli", *words]
    with subprocess.Popen(
        command_line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as command:
        child = wait_for_child(command.pid, while_in)
        command.send_signal(end)
    assert command.returncode == (-end if end == signal.SIGKILL else 130)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child}/maps").exists() and maps_of(child):
        assert time.monotonic() < deadline, "a process outlives the command"
        time.sleep(0.1)
    assert [path for path in tmp_path.iterdir() if path.name not in ("home", OF_THE_RUNTIME)] == []


def maps_of(pid: int) -> str:
    """The mappings of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return ""


def wait_for_child(parent: int, sign: str) -> int:
    """A process of a command, once this is in its command line or among its mappings."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) != parent:
                    continue
                if sign in (folder / "cmdline").read_text() or sign in maps_of(int(folder.name)):
                    return int(folder.name)
        time.sleep(0.02)
    raise AssertionError("no such process was started")
