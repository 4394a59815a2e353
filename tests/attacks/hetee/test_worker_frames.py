"""A worker uses no frame that a host tampered with, and leaves and reveals nothing of its tenant (R3-R5, R7)."""

from __future__ import annotations

import errno
import hashlib
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hetee_worker_peer import SECRET, SESSION, Client, WorkerUnderTest, as_tensor
from sectum.hetee.channel.secret import Secret
from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.data_plane.channel import data_channel
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire import messages
from sectum.hetee.wire.kinds import Kind, Role
from sectum.testing.tiny_models import convolutions

pytestmark = pytest.mark.slow

X = np.random.default_rng(11).random((1, 8, 32, 32), np.float32)
MARK = b"a tenant's plaintext: 7d1f0c5e"


@pytest.fixture
def worker() -> Iterator[WorkerUnderTest]:
    """A spare worker."""
    with WorkerUnderTest(stderr=subprocess.PIPE) as started:
        yield started


def frames_of_a_batch(client: Client, model: bytes) -> list[bytearray]:
    """The frames of one good batch, sealed and not sent: its opening and its four chunks."""
    client.stream += 1
    message = data_messages.BatchOpening(model=model, tensors=(as_tensor("x", X),), deadline_ms=60_000)
    opening, data = messages.encode(message), X.reshape(-1).view(np.uint8).data
    size = len(data) // 4
    fields = {"stream": client.stream, "chunks": 4, "total": len(data)}
    frames = [client.sealer.seal(Kind.BATCH, opening, **fields)]
    for index in range(4):
        frame = bytearray(64 + size + 16)
        part = data[index * size : (index + 1) * size]
        context = hashlib.sha256(opening).digest()
        client.sealer.seal_into(Kind.CHUNK, part, frame, chunk=index, context=context, **fields)
        frames.append(frame)
    return frames


def flip(frame: bytearray, at: int, bit: int = 0) -> bytearray:
    """The frame with one bit changed."""
    changed = bytearray(frame)
    changed[at] ^= 1 << bit
    return changed


ATTACKS = {
    "as it is": (lambda f: f, None),
    "replayed": (lambda f: [*f, f[2]], Refusal.REPLAYED),
    "opening replayed": (lambda f: [*f, f[0]], Refusal.REPLAYED),
    "reordered": (lambda f: [f[0], f[2], f[1], *f[3:]], Refusal.GAP),
    "dropped": (lambda f: [*f[:2], *f[3:]], Refusal.GAP),
    "opening dropped": (lambda f: f[1:], Refusal.GAP),
    "payload flipped": (lambda f: [*f[:2], flip(f[2], 100), *f[3:]], Refusal.NOT_AUTHENTIC),
    "tag flipped": (lambda f: [*f[:4], flip(f[4], -1, 7)], Refusal.NOT_AUTHENTIC),
    "opening flipped": (lambda f: [flip(f[0], 70), *f[1:]], Refusal.NOT_AUTHENTIC),
    "session flipped": (lambda f: [flip(f[0], 20), *f[1:]], Refusal.WRONG_SESSION),
    "epoch flipped": (lambda f: [flip(f[0], 15), *f[1:]], Refusal.WRONG_EPOCH),
    "stream flipped": (lambda f: [*f[:2], flip(f[2], 47, 3), *f[3:]], Refusal.NOT_AUTHENTIC),
    "total flipped": (lambda f: [flip(f[0], 63), *f[1:]], Refusal.NOT_AUTHENTIC),
    "too short": (lambda f: [*f[:2], flip(f[2], 10, 5), *f[3:]], Refusal.BAD_LENGTH),
    "longer": (lambda f: [*f[:2], flip(f[2], 10, 4), *f[3:]], Refusal.NOT_AUTHENTIC),
    "no magic": (lambda f: [flip(f[0], 0), *f[1:]], Refusal.BAD_MAGIC),
    "of another role": (lambda f: [flip(f[0], 5, 6), *f[1:]], Refusal.UNKNOWN_TYPE),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_frames_changed_on_their_way(worker: WorkerUnderTest, attack: str) -> None:
    """A changed, repeated, missing or misplaced frame ends the worker with the right code and without a result."""
    change, code = ATTACKS[attack]
    client = worker.assign()
    loaded = client.load(convolutions())
    assert isinstance(loaded, data_messages.Loaded)
    for frame in change(frames_of_a_batch(client, loaded.sha256)):
        try:
            client.socket.sendall(frame)
        except OSError:  # it has ended already
            break
    if code is None:
        assert client.answer()[1].receipt
        return
    assert worker.ended() == refusal(code, "").exit_code
    whole = attack in ("replayed", "opening replayed")  # the batch before it was whole: it may be answered
    answers = _answers(client)
    assert all(answer.receipt is None or whole for answer in answers)
    assert {answer.refused.code for answer in answers if answer.refused} <= {code}


def _answers(client: Client) -> list:
    answers = []
    try:
        while True:
            answers.append(client.answer()[1])
    except (EOFError, OSError):
        return answers


def test_truncated(worker: WorkerUnderTest) -> None:
    """A connection that ends inside a frame computes nothing."""
    client = worker.assign()
    loaded = client.load(convolutions())
    assert isinstance(loaded, data_messages.Loaded)
    frames = frames_of_a_batch(client, loaded.sha256)
    client.socket.sendall(b"".join(frames)[:-1])
    client.socket.close()
    assert worker.ended() == refusal(Refusal.TRUNCATED, "").exit_code


def test_frames_of_another_session(worker: WorkerUnderTest) -> None:
    """Frames sealed under other keys do not open, although the host gave them this session's id."""
    client = worker.assign()
    client.sealer, _ = data_channel(Role.CLIENT, Secret(bytes(32)), SESSION)
    client.send(Kind.FINISH, messages.Empty())
    assert worker.ended() == refusal(Refusal.NOT_AUTHENTIC, "").exit_code


def test_its_own_frames_reflected(worker: WorkerUnderTest) -> None:
    """A record that the worker sealed itself is refused when it comes from the client."""
    worker.release()
    worker.link.send(Kind.GRANT, messages.Accelerators(accelerators=("cpu:0",)))
    ready = worker.data.recv(1 << 16)
    worker.data.sendall(ready)
    assert worker.ended() == refusal(Refusal.UNEXPECTED, "").exit_code


def test_nothing_of_a_tenant_is_left_or_told(worker: WorkerUnderTest) -> None:
    """After WIPE neither plaintext nor keys are in the process's buffers, and its log never had them."""
    client = worker.assign()
    loaded = client.load(convolutions())
    assert isinstance(loaded, data_messages.Loaded)
    x = X.copy()
    x.reshape(-1).view(np.uint8)[400 : 400 + len(MARK)] = np.frombuffer(MARK, np.uint8)
    assert client.infer(loaded.sha256, {"x": x}).receipt
    found_before = _count(worker.process.pid, MARK)
    assert found_before in (None, 1)
    assert client.infer(bytes(32), {"x": x}).refused
    worker.wipe()
    if found_before is not None:
        assert _count(worker.process.pid, MARK) == 0
        assert _count(worker.process.pid, SECRET) == 0
    worker.link.close()
    worker.ended()
    assert worker.process.stderr is not None
    log = worker.process.stderr.read()
    assert b"wiped" in log
    for secret in (MARK, SECRET, SECRET.hex().encode(), b"conv1", loaded.sha256.hex().encode()):
        assert secret not in log


def test_a_wipe_in_the_middle_of_a_frame_is_told_all_the_same(worker: WorkerUnderTest) -> None:
    """A client that keeps sending during the end of its enclave does not change the worker's exit code."""
    client = worker.assign()
    loaded = client.load(convolutions())
    assert isinstance(loaded, data_messages.Loaded)
    opening, chunk, *_ = frames_of_a_batch(client, loaded.sha256)
    worker.data.sendall(opening + chunk[: len(chunk) // 2])
    time.sleep(0.1)  # so that the worker waits for the rest
    assert worker.wipe().wiped_bytes
    worker.link.close()
    assert worker.ended() == 0


def _count(pid: int, pattern: bytes) -> int | None:
    """How often bytes are in the private memory of a process; None where the kernel does not let us look."""
    found = 0
    try:
        maps = Path(f"/proc/{pid}/maps").read_text()
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            for line in maps.splitlines():
                span = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
                if span and "[v" not in line:
                    begin, end = (int(side, 16) for side in span.groups())
                    memory.seek(begin)
                    try:
                        found += (memory.read(end - begin) or b"").count(pattern)
                    except OSError as error:
                        if error.errno != errno.EIO:  # unmapped since, by a process that ends: nothing is left there
                            raise
    except PermissionError:
        return None
    return found
