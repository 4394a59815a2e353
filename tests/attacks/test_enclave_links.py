"""A host between enclaves cannot change what crosses, and no end of a chain leaves anything behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from chains import chain_streams
from sectum import zoo
from sectum.enclave.runners.chain import ChainRunner, ChainSession
from sectum.enclave.runners.native import NativeRunner
from sectum.enclave.runners.relay import Pace
from sectum.enclave.runners.runner import Job
from sectum.enclave.runners.softepc import SoftEpcRunner
from sectum.errors import EnclaveFailed, EnclaveTampered, EnclaveUnavailable
from sectum.graph import Model, read
from sectum.units import MIB

pytestmark = pytest.mark.slow
FAST = Pace(1e12, 0.0)
ENCLAVES = 3
OF_THE_RUNTIME = ".ses"
"""A file with an identifier that ONNX Runtime writes wherever it is loaded."""


@pytest.fixture(scope="module", autouse=True)
def enclave() -> None:
    try:
        SoftEpcRunner().check()
    except EnclaveUnavailable as error:
        pytest.skip(f"no software enclave here: {error}")


@pytest.fixture(scope="module")
def model() -> Model:
    return read(zoo.to_bytes(zoo.network("squeezenet1_1", resolution=64), batch=1))


@pytest.fixture(scope="module")
def streams(model: Model) -> Iterator[dict]:
    """SqueezeNet in three enclaves of three streamed stages each."""
    with chain_streams(model, ENCLAVES, epc_bytes=16 * MIB) as made:
        yield made


class Host:
    """The machine between the enclaves: it attacks the second message of the first link, and keeps all of them."""

    def __init__(self, attack: Callable[[list[bytes], bytes], Iterable[bytes]] | None = None) -> None:
        self._attack = attack
        self.seen: list[bytes] = []

    def __call__(self, link: int, message: bytearray) -> Iterable[bytes]:
        """Forward a message, or what the attack makes of it."""
        content = bytes(message)
        if link == 0 and self._attack is not None and len(self.seen) == 1:
            return self._attack(self.seen, content)
        if link == 0:
            self.seen.append(content)
        return [content]


def started(streams: dict, carry: Host) -> ChainSession:
    """A chain whose messages pass through the host."""
    return ChainRunner(FAST, carry).start(Job(model=b"", streams=streams, deadline_s=120))


def flip(_earlier: list[bytes], message: bytes) -> list[bytes]:
    """Change one bit."""
    return [message[:1000] + bytes([message[1000] ^ 1]) + message[1001:]]


def replay(earlier: list[bytes], _message: bytes) -> list[bytes]:
    """Deliver the message of the inference before."""
    return [earlier[0]]


def cut(_earlier: list[bytes], message: bytes) -> list[bytes]:
    """Leave the second half out."""
    return [message[: len(message) // 2]]


def repeat(_earlier: list[bytes], message: bytes) -> list[bytes]:
    """Deliver it twice."""
    return [message, message]


@pytest.mark.parametrize("attack", [flip, replay, cut, repeat])
def test_a_changed_message_ends_the_run(streams: dict, attack: Callable[[list[bytes], bytes], Iterable[bytes]]) -> None:
    """What was changed, repeated or cut on a link ends the run as tampering, and the error names the link."""
    host = Host(attack)
    with started(streams, host) as session:
        session.sample(1)
        with pytest.raises(EnclaveTampered, match=r"enclave 1 of 3: message [12] of link 0"):
            session.sample(2)


def test_a_message_of_another_run_ends_the_run(streams: dict) -> None:
    """The same values as another chain sealed them for the same place are refused: each run draws keys."""
    earlier = Host()
    with started(streams, earlier) as session:
        session.sample(2)
    host = Host(lambda _seen, _message: [earlier.seen[1]])
    with started(streams, host) as session:
        session.sample(1)
        with pytest.raises(EnclaveTampered):
            session.sample(1)
    assert len(host.seen[0]) == len(earlier.seen[0])


def test_a_message_of_another_link_ends_the_run(streams: dict) -> None:
    """A message of the second link is refused on the first."""
    others: list[bytes] = []

    def host(link: int, message: bytearray) -> Iterable[bytes]:
        if link == 1:
            others.append(bytes(message))
        elif others:
            return [others[0]]
        return [bytes(message)]

    with ChainRunner(FAST, host).start(Job(model=b"", streams=streams, deadline_s=120)) as session:
        session.sample(1)
        with pytest.raises(EnclaveTampered):
            session.sample(1)


def test_an_untouched_chain_gives_the_native_outputs(model: Model, streams: dict) -> None:
    """A host that only looks changes nothing: the outputs are the native run's, bit for bit, and the EPC is kept."""
    with NativeRunner().start(Job(model=model.bound_bytes())) as native:
        expected = native.outputs_digest()
    host = Host()
    with started(streams, host) as session:
        session.sample(2)
        assert session.outputs_digest() == expected
        session.set_epc(8 * MIB)
        assert session.outputs_digest() == expected
        assert session.memory().peak_resident_bytes <= ENCLAVES * 16 * MIB
    assert len(set(host.seen)) == len(host.seen) == 4


@pytest.mark.parametrize("place", range(ENCLAVES))
def test_a_killed_enclave_ends_the_run_with_a_clear_error(
    streams: dict, place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If one enclave is killed, the error names it, all others end, and no file is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    session = started(streams, Host())
    session.sample(1)
    children = list(session._children)
    pids = [child._process.pid for child in children]
    os.kill(pids[place], signal.SIGKILL)
    with pytest.raises(EnclaveFailed, match=f"enclave {place} of 3: the softepc process was killed by SIGKILL"):
        session.sample(1)
    assert list(tmp_path.iterdir()) == []
    assert not any(alive(pid) for pid in pids)
    session.close()


def test_a_killed_command_leaves_no_enclave_behind(tmp_path: Path) -> None:
    """If the command that runs a chain is killed, all its enclaves end, and no file is left."""
    environment = os.environ | {"TMPDIR": str(tmp_path), "SECTUM_HOME": str(tmp_path / "home")}
    words = ["plan", "zoo:squeezenet1_1", "--epc", "6MiB", "--enclaves", "3", "--goal", "throughput", "--measure",
             "--runs", "90000", "--deadline", "600"]  # fmt: skip
    command_line = [sys.executable, "-m", "sectum.cli", *words]
    with subprocess.Popen(command_line, env=environment, stdout=subprocess.DEVNULL) as command:
        children = wait_for_enclaves(command.pid, 3)
        command.kill()
    end = time.monotonic() + 60
    while any(alive(child) for child in children):
        assert time.monotonic() < end, "enclaves outlive the command"
        time.sleep(0.1)
    assert [path for path in tmp_path.iterdir() if path.name not in ("home", OF_THE_RUNTIME)] == []


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def wait_for_enclaves(parent: int, count: int) -> list[int]:
    """The processes of a command that hold the pager, once all are there and run inferences."""
    end = time.monotonic() + 300
    while time.monotonic() < end:
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError, IndexError):
                fields = status.read_text().rpartition(")")[2].split()
                maps = (status.parent / "maps").read_text() if int(fields[1]) == parent else ""
                if "softepc" in maps and "sectum-sealed-weights" in maps:
                    found.append(int(status.parent.name))
        if len(found) == count:
            time.sleep(2.0)
            return found
        time.sleep(0.2)
    raise AssertionError("the enclaves were not started")
