"""Jobs of the insecure world that do not end, that leave processes behind, and programs that lie for them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hetee_rack import Rack, until
from sectum.hetee.errors import HeteeError, Refusal
from sectum.hetee.jobs.lease import Granted, Lease, Revoked
from sectum.hetee.wire.frames import FrameReader, plain_frame
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Accelerators, Empty, Job, encode

pytestmark = pytest.mark.slow

GRACE_S = 1.0
# It ignores SIGTERM, and so does a process of it in a session of its own, which keeps a file open.
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    device = open(sys.argv[1])
open(sys.argv[2] + str(os.getpid()), "w").write(os.environ["SECTUM_ACCELERATORS"])
time.sleep(600)
"""


@pytest.fixture(scope="module")
def rack() -> Iterator[Rack]:
    """A rack whose jobs have a short grace time."""
    with Rack("cpu=2", arguments=["--job-grace-s", str(GRACE_S)]) as started:
        yield started


def run(state: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start ``sectum hetee run --insecure`` with these options and this command."""
    return subprocess.Popen(
        [sys.executable, "-m", "sectum.cli", "hetee", "run", "--insecure", "--state", str(state), *words]
    )


def stubborn(tmp_path: Path) -> tuple[list[str], Path]:
    """The command of a stubborn job, and the file that a process of it keeps open."""
    device = tmp_path / "device"
    device.touch()
    return [sys.executable, "-c", STUBBORN, str(device), str(tmp_path / "alive-")], device


def alive(tmp_path: Path, count: int) -> list[int]:
    """The process ids of a stubborn job, when there are so many."""
    until(lambda: len(list(tmp_path.glob("alive-*"))) >= count, what=f"{count} processes")
    return [int(path.name.partition("-")[2]) for path in tmp_path.glob("alive-*")]


def holders(path: Path) -> list[str]:
    """The processes that keep a file open."""
    found = []
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if descriptor.samefile(path):
                found.append(descriptor.parts[2])
    return found


def steps(rack: Rack, begun: int) -> list[str]:
    """What happened to jobs and enclaves since the log had so many lines."""
    wanted = ("job_granted", "job_revoked", "job_late", "job_returned", "vouched")
    return [event["event"] for event in list(rack.log())[begun:] if event["event"] in wanted]


def free(rack: Rack) -> bool:
    """Whether nobody has an accelerator."""
    return all(one["world"] == "free" for one in (rack.state() or {}).get("accelerators", [{"world": ""}]))


def heard(lease: Lease) -> Granted | Revoked:
    """The next thing that a job hears."""
    return until(lambda: next(lease.heard(), None), what="a word of the controller")


@pytest.mark.parametrize("once", [True, False])
def test_a_job_that_does_not_stop_is_killed_with_all_that_it_started(rack: Rack, tmp_path: Path, once: bool) -> None:
    """When the enclave is vouched for, no process of the job is left, and none keeps open what it had open."""
    until(lambda: free(rack), what="free accelerators")
    begun = len(list(rack.log()))
    command, device = stubborn(tmp_path)
    job = run(rack.paths.directory, "--count", "2", *(["--once"] if once else []), *command)
    pids = alive(tmp_path, 2)
    assert holders(device)
    with rack.connect(count=2, wait_s=60):
        assert steps(rack, begun) == ["job_granted", "job_revoked", "job_returned", "vouched"]
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        assert not holders(device)
    if once:
        assert job.wait(30) == 53
        return
    again = set(alive(tmp_path, 4)) - set(pids)  # its accelerators are back
    job.terminate()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in again), what="the end of the job")
    assert job.wait(30) == 128 + signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_program_that_does_not_answer_loses_what_its_job_had(rack: Rack, tmp_path: Path, number: int) -> None:
    """Whether the program of a job hangs or is killed, a session is served after the grace time and a reset."""
    until(lambda: free(rack), what="free accelerators")
    begun = len(list(rack.log()))
    command, _ = stubborn(tmp_path)
    job = run(rack.paths.directory, "--count", "2", *command)
    pids = alive(tmp_path, 2)
    try:
        job.send_signal(number)
        with rack.connect(count=2, wait_s=60):
            late = ["job_revoked", "job_late"] if number == signal.SIGSTOP else []
            assert steps(rack, begun) == ["job_granted", *late, "vouched"]
    finally:
        job.send_signal(signal.SIGCONT)
        assert job.wait(30) == (-signal.SIGKILL if number == signal.SIGKILL else 46)
        if number == signal.SIGSTOP:  # it went on, and killed its job at once
            assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        for pid in pids:  # the kernel has ended the process that it started, but not the detached one
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_program_that_lies_gains_no_accelerator(rack: Rack) -> None:
    """It can say that its own job ended, which nobody can check, but not that another's did, nor keep what it had."""
    until(lambda: free(rack), what="free accelerators")
    honest, liar = Lease(rack.paths.socket), Lease(rack.paths.socket)
    try:
        honest.ask(Job(accelerator="cpu"))
        assert heard(honest) == Granted(("cpu:0",))
        liar.ask(Job(accelerator="cpu"))
        assert heard(liar) == Granted(("cpu:1",))
        liar.give_back()
        with rack.connect():
            assert {one["name"]: one["world"] for one in (rack.state() or {})["accelerators"]} == {
                "cpu:0": "insecure",
                "cpu:1": "secure",
            }
            liar.give_back()  # once more, for what the enclave has now
            with pytest.raises(HeteeError) as caught:
                heard(liar)
            assert caught.value.code is Refusal.UNEXPECTED
    finally:
        honest.close()
        liar.close()


def test_a_client_cannot_speak_for_a_job(rack: Rack) -> None:
    """A host forwards no frame of a job from a client."""
    until(lambda: free(rack), what="free accelerators")
    with socket.create_connection(("127.0.0.1", rack.port)) as client:
        client.settimeout(10)
        client.sendall(plain_frame(Kind.JOB_REQUEST, encode(Job(accelerator="cpu"))))
        assert plain_frame(Kind.ERROR, b"")[5] == client.recv(4096)[5]
        client.sendall(plain_frame(Kind.JOB_RETURNED, encode(Empty())))
    assert free(rack)


@pytest.mark.parametrize("granted", [True, False])
def test_a_program_that_leaves_owes_nothing(tmp_path: Path, granted: bool) -> None:
    """A command that cannot start, or is interrupted while it waits, says JOB_RETURNED: no GPU is withheld for it."""
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF, but not really")
    broken.chmod(0o755)
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "run" / "controller.sock"))
        listener.listen()
        listener.settimeout(30)
        job = run(tmp_path, "--accelerator", "cuda", str(broken))
        controller, _ = listener.accept()
    with controller:
        controller.settimeout(30)
        reader = FrameReader(frozenset(Kind), lambda memory, _whole: controller.recv_into(memory))
        asked = reader.next()
        assert asked is not None
        assert asked.header.kind is Kind.JOB_REQUEST
        if granted:
            controller.sendall(plain_frame(Kind.JOB_GRANT, encode(Accelerators(accelerators=("cuda:0",)))))
        else:
            job.send_signal(signal.SIGINT)
        returned = reader.next()
        assert returned is not None
        assert returned.header.kind is Kind.JOB_RETURNED
        assert reader.next() is None
    assert job.wait(30) == (2 if granted else 128 + signal.SIGINT)
