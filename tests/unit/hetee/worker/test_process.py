"""A worker's process from its start to its end, as its controller sees it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from hetee_worker_peer import Client, WorkerUnderTest, as_tensor
from sectum.hetee.channel.release import release
from sectum.hetee.channel.secret import Secret
from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire import messages
from sectum.hetee.wire.header import chunks_needed
from sectum.hetee.wire.kinds import Kind
from sectum.testing.tiny_models import convolutions, endless_loop, large_activation

pytestmark = pytest.mark.slow

X = np.random.default_rng(7).random((1, 8, 32, 32), np.float32)


@pytest.fixture
def worker() -> Iterator[WorkerUnderTest]:
    """A spare worker."""
    with WorkerUnderTest("--measurement", "ab" * 32, stderr=subprocess.PIPE) as started:
        yield started


def test_is_born_with_fresh_keys(worker: WorkerUnderTest) -> None:
    """STARTED names the process and its keys, which are not those of any other worker."""
    assert worker.started.pid == worker.process.pid
    with WorkerUnderTest() as other:
        keys = {
            worker.started.worker_key,
            worker.started.receipt_key,
            other.started.worker_key,
            other.started.receipt_key,
        }
    assert len(keys) == 4


@pytest.mark.parametrize("first", ["release", "grant"])
def test_is_ready_with_keys_and_an_accelerator(worker: WorkerUnderTest, first: str) -> None:
    """READY comes after RELEASE and GRANT in either order, and lists the granted accelerators."""
    granted = messages.Accelerators(accelerators=("cpu:3",))
    if first == "grant":
        worker.link.send(Kind.GRANT, granted)
        worker.release()
    else:
        worker.release()
        worker.link.send(Kind.GRANT, granted)
    ready = Client(worker.data, worker.started.receipt_key).expect(Kind.READY, data_messages.Ready)
    assert (ready.accelerators, ready.credit_bytes, ready.open_streams) == (("cpu:3",), 1 << 20, 8)


def test_signs_what_it_did(worker: WorkerUnderTest) -> None:
    """A receipt is signed with the key of STARTED and names the measurement that the controller took."""
    client = worker.assign()
    loaded = client.load(convolutions())
    receipt = client.infer(hash_of(loaded), {"x": X}).receipt
    assert receipt is not None
    assert (receipt.measurement, receipt.hardware) == (bytes.fromhex("ab" * 32), "software")
    assert "SOFTWARE" in str(receipt)


def hash_of(loaded: data_messages.Loaded | messages.Failure) -> bytes:
    assert isinstance(loaded, data_messages.Loaded), loaded
    return loaded.sha256


def test_gives_accelerators_back_and_takes_them_again(worker: WorkerUnderTest) -> None:
    """After REVOKE a batch waits; after the next GRANT it is computed, with the model that was sent before."""
    client = worker.assign(["cpu:0"])
    sha256 = hash_of(client.load(convolutions()))
    worker.link.send(Kind.REVOKE, messages.Accelerators(accelerators=("cpu:0",)))
    returned = worker.link.receive(Kind.RETURNED, messages.Accelerators)
    assert returned.accelerators == ("cpu:0",)
    client.batch(sha256, [as_tensor("x", X)], [X])
    client.send(Kind.PING_WORKER, messages.Ping(number=5))
    assert client.expect(Kind.PONG_WORKER, messages.Ping).number == 5
    worker.link.send(Kind.GRANT, messages.Accelerators(accelerators=("cpu:1",)))
    assert client.answer()[1].receipt


def test_beats(worker: WorkerUnderTest) -> None:
    """A worker sends HEARTBEAT twice a second."""
    client = worker.assign()
    client.infer(hash_of(client.load(convolutions())), {"x": X})
    assert worker.link.receive(Kind.HEARTBEAT, messages.Heartbeat).batches in (0, 1)
    assert worker.link.receive(Kind.HEARTBEAT, messages.Heartbeat).batches == 1


def test_wipes_itself(worker: WorkerUnderTest) -> None:
    """WIPE ends the session: accelerators come back, the data socket ends, and the process waits for its end."""
    client = worker.assign()
    client.infer(hash_of(client.load(convolutions())), {"x": X})
    worker.link.send(Kind.WIPE, messages.Deadline(deadline_ms=0))
    assert worker.link.receive(Kind.RETURNED, messages.Accelerators).accelerators == ("cpu:0",)
    wiped = worker.link.receive(Kind.WIPED, messages.Wiped)
    assert wiped.wiped_bytes >= X.nbytes
    assert (wiped.answered, wiped.refused) == (1, 0)
    with pytest.raises((EOFError, ConnectionError)):
        client.answer()
    assert worker.process.poll() is None


def test_wiping_does_not_wait_for_a_model_without_end(worker: WorkerUnderTest) -> None:
    """At the deadline of WIPE, what still computes is refused, and the worker is wiped."""
    client = worker.assign()
    endless = hash_of(client.load(endless_loop()))
    client.batch(endless, [as_tensor("x", np.zeros(1, np.float32))], [bytes(4)])
    client.send(Kind.PING_WORKER, messages.Ping(number=1))
    client.expect(Kind.PONG_WORKER, messages.Ping)  # so the batch was taken
    begun_s = time.monotonic()
    assert worker.wipe(deadline_ms=300).refused == 1
    assert time.monotonic() - begun_s < 5
    refused = client.answer()[1].refused
    assert refused is not None
    assert refused.code is Refusal.CANCELLED


def test_accelerators_come_and_go_while_it_drains(worker: WorkerUnderTest) -> None:
    """After WIPE a worker still reads REVOKE and GRANT, and so answers what is open before it is wiped."""
    client = worker.assign(["cpu:0"])
    sha256 = hash_of(client.load(convolutions()))
    worker.link.send(Kind.REVOKE, messages.Accelerators(accelerators=("cpu:0",)))
    worker.link.receive(Kind.RETURNED, messages.Accelerators)
    client.batch(sha256, [as_tensor("x", X)], [X])
    client.send(Kind.PING_WORKER, messages.Ping(number=1))
    client.expect(Kind.PONG_WORKER, messages.Ping)  # so the batch was taken
    worker.link.send(Kind.WIPE, messages.Deadline(deadline_ms=20_000))
    worker.link.send(Kind.GRANT, messages.Accelerators(accelerators=("cpu:1",)))
    assert client.answer()[1].receipt
    assert worker.link.receive(Kind.RETURNED, messages.Accelerators).accelerators == ("cpu:1",)
    wiped = worker.link.receive(Kind.WIPED, messages.Wiped)
    assert (wiped.answered, wiped.refused) == (1, 0)


def test_a_second_wipe_ends_the_wait(worker: WorkerUnderTest) -> None:
    """A client that is gone needs no answers: WIPE without a deadline ends a drain that has one."""
    client = worker.assign()
    endless = hash_of(client.load(endless_loop()))
    client.batch(endless, [as_tensor("x", np.zeros(1, np.float32))], [bytes(4)])
    client.send(Kind.PING_WORKER, messages.Ping(number=1))
    client.expect(Kind.PONG_WORKER, messages.Ping)
    worker.link.send(Kind.WIPE, messages.Deadline(deadline_ms=600_000))
    begun_s = time.monotonic()
    assert worker.wipe(deadline_ms=0).refused == 1
    assert time.monotonic() - begun_s < 20


def test_a_model_over_the_limit_is_refused_before_it_is_sent() -> None:
    """A CODE of 2 GiB is MODEL_REFUSED at once, not when the worker has no memory left."""
    with WorkerUnderTest("--memory-mib", "700") as worker:
        client, total = worker.assign(), 2 << 30
        code = data_messages.CodeOpening(format="onnx", sha256=bytes(32))
        client.send(Kind.CODE, code, stream=1, chunks=chunks_needed(total, 1 << 18), total=total)
        assert client.expect(Kind.REFUSED, messages.Failure).code is Refusal.MODEL_REFUSED
        client.send(Kind.PING_WORKER, messages.Ping(number=1))
        client.expect(Kind.PONG_WORKER, messages.Ping)


def test_what_follows_a_refused_model_is_served() -> None:
    """The chunks of a refused model are taken and ignored; the next model is loaded, and others can be unloaded."""
    with WorkerUnderTest("--memory-mib", "700") as worker:
        client = worker.assign()
        assert isinstance(client.load(bytes(130 << 20)), messages.Failure)
        sha256 = hash_of(client.load(convolutions()))
        client.send(Kind.UNLOAD, data_messages.CodeOpening(format="onnx", sha256=sha256))
        refused = client.infer(sha256, {"x": X}).refused
        assert refused is not None
        assert refused.code is Refusal.NO_MODEL
        assert client.infer(hash_of(client.load(convolutions())), {"x": X}).receipt


def test_a_model_cannot_take_more_memory_than_the_limit() -> None:
    """A batch that needs more than the worker may have is refused, and the worker goes on."""
    with WorkerUnderTest("--memory-mib", "700") as worker:
        assert "memory-limit" in worker.started.confinement
        client = worker.assign()
        huge, sha256 = hash_of(client.load(large_activation(1024))), hash_of(client.load(convolutions()))
        refused = client.infer(huge, {"x": np.zeros((1, 1), np.float32)}).refused
        assert refused is not None
        assert refused.code is Refusal.COMPUTE_FAILED
        assert client.infer(sha256, {"x": X}).receipt


def test_memory_does_not_grow(worker: WorkerUnderTest) -> None:
    """Hundreds of batches, answered and refused, take no more memory than the first ones did."""
    client = worker.assign()
    sha256 = hash_of(client.load(convolutions()))

    def resident_kib(batches: int) -> int:
        for _ in range(batches):
            assert client.infer(sha256, {"x": X}).receipt
            assert client.infer(bytes(32), {"x": X}).refused
        status = Path(f"/proc/{worker.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    before = resident_kib(50)
    assert resident_kib(300) < before + 2048


def test_computes_on_several_threads() -> None:
    """Threads of the runtime start in a confined process too, and the process was confined before there were any."""
    with WorkerUnderTest("--threads", "2") as worker:
        assert not [line for line in worker.started.unconfined if "threads" in line]
        client = worker.assign()
        assert client.infer(hash_of(client.load(convolutions())), {"x": X}).receipt


def test_a_spare_can_be_wiped(worker: WorkerUnderTest) -> None:
    """A worker that never had a session has nothing to wipe, and says so."""
    assert worker.wipe() == messages.Wiped(wiped_bytes=0, answered=0, refused=0)


def test_serves_one_session_in_its_life(worker: WorkerUnderTest) -> None:
    """A second RELEASE ends the process: a worker never has another tenant."""
    worker.assign()
    worker.release()
    assert worker.ended() == refusal(Refusal.WIPED, "").exit_code


def test_a_release_for_another_worker_ends_it(worker: WorkerUnderTest) -> None:
    """A secret that was sealed to another worker's key does not open."""
    with WorkerUnderTest() as other:
        sealed = release(Secret(bytes(32)), other.started.worker_key, bytes(range(16)), 0)
    message = messages.Release(
        session=bytes(range(16)), index=0, sealed=sealed, accelerator="cpu", credit_bytes=1, open_streams=1
    )
    worker.link.send(Kind.RELEASE, message)
    assert worker.ended() == refusal(Refusal.NOT_AUTHENTIC, "").exit_code


def test_broken_rules_end_it_with_their_code(worker: WorkerUnderTest) -> None:
    """A frame that does not open ends the process with the exit code of its error, and the log names it."""
    client = worker.assign()
    frame = client.sealer.seal(Kind.FINISH, messages.encode(messages.Empty()))
    frame[-1] ^= 1
    client.socket.sendall(frame)
    assert worker.ended() == refusal(Refusal.NOT_AUTHENTIC, "").exit_code
    assert worker.process.stderr is not None
    lines = [json.loads(line) for line in worker.process.stderr.read().splitlines()]
    assert lines[-1]["code"] == "NOT_AUTHENTIC"


def test_ends_with_its_link(worker: WorkerUnderTest) -> None:
    """A worker whose controller closed the link ends, also while it computes."""
    client = worker.assign()
    endless = hash_of(client.load(endless_loop()))
    client.batch(endless, [as_tensor("x", np.zeros(1, np.float32))], [bytes(4)])
    worker.link.close()
    assert worker.ended() == 0


def test_dies_with_its_controller() -> None:
    """A worker whose controller is killed is killed by the kernel, although the link is still open elsewhere."""
    link, its_link = socket.socketpair()
    data, its_data = socket.socketpair()
    with link, its_link, data, its_data:
        ends = (its_link.fileno(), its_data.fileno())
        controller = subprocess.Popen(
            [sys.executable, "-P", "-c", _CONTROLLER.format(link=ends[0], data=ends[1])], pass_fds=ends
        )
        link.settimeout(30)
        head = link.recv(64, socket.MSG_WAITALL)
        started = messages.decode(link.recv(int.from_bytes(head[8:12]), socket.MSG_WAITALL), messages.Started)
        controller.kill()
        controller.wait()
        end_s = time.monotonic() + 10
        while _runs(started.pid):
            assert time.monotonic() < end_s, "the worker outlived its controller"
            time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


_CONTROLLER = """
import subprocess, sys, time
command = [sys.executable, "-P", "-m", "sectum.hetee.worker", "--data", "{data}"]
subprocess.Popen(command, stdin={link}, pass_fds=({data},))
time.sleep(60)
"""


def test_says_which_accelerator_it_lacks() -> None:
    """A worker that was started for a kind that this machine lacks ends at once, and says why."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine may have a GPU")
    with tempfile.TemporaryFile() as log:
        with pytest.raises(EOFError):
            WorkerUnderTest("--accelerators", "cuda:0", stderr=log.fileno())
        log.seek(0)
        assert b"NO_ACCELERATOR" in log.read()


def test_needs_a_controller() -> None:
    """A worker that is started by hand ends with an explanation."""
    command = [sys.executable, "-P", "-m", "sectum.hetee.worker"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 1
    assert "controller" in done.stderr
    assert "Traceback" not in done.stderr
