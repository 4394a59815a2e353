"""R1-R3, R7, R8 in running processes: what each process can reach, what is left afterwards, where the keys are."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from hetee_hostile_host import HostileHost
from hetee_rack import Rack, found_in_memory, may_look_into_processes, memory_of, until
from hetee_session_pair import bytes_of
from sectum.hetee.client import Session
from sectum.hetee.errors import Refusal, WorkRefused

pytestmark = pytest.mark.skipif(
    not may_look_into_processes(), reason="looking into the memory of other processes needs root"
)


def open_files(pid: int) -> dict[int, str]:
    """Descriptors of a process and what they are."""
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        found[int(link.name)] = re.sub(r"\[\d+\]", "", str(link.readlink()))
    return found


def secrets_of(session: Session) -> dict[str, bytes]:
    """The traffic secrets of a live session, as its own client has them."""
    control = session._transport.connection.session
    enclave = session._transport.enclave
    assert enclave is not None
    directions = {
        "control up": control.sealer,
        "control down": control.opener,
        "data up": enclave.sealer,
        "data down": enclave._opener,
    }
    return {name: bytes_of(direction._traffic) for name, direction in directions.items()}


def marker(seed: int) -> np.ndarray:
    """Random numbers that occur nowhere else in memory."""
    return np.random.default_rng(seed).random(100_000).astype(np.float32)


@pytest.fixture
def used(rack: Rack, doubler: bytes) -> Iterator[tuple[Session, HostileHost, np.ndarray, np.ndarray]]:
    """A session that has just computed something secret, through a host that records everything."""
    numbers = marker(os.getpid())
    with HostileHost(rack.port) as host, rack.connect(url=host.url) as session:
        session.load(doubler)
        answer = session.infer(numbers).outputs["y"]
        yield session, host, numbers, answer


def test_a_host_sees_neither_plaintext_nor_keys(
    rack: Rack, doubler: bytes, used: tuple[Session, HostileHost, np.ndarray, np.ndarray]
) -> None:
    """R2: the host's memory, the traffic, the logs and the files hold no input, result, model or key."""
    session, host, numbers, answer = used
    pid = rack.launcher.host.pid
    assert pid is not None
    needles = {
        "input": numbers.tobytes()[4096:4160],
        "result": answer.tobytes()[4096:4160],
        "model": doubler[4:60],
        **secrets_of(session),
    }
    session_id = session._transport.connection.session.session_id
    searched = b"".join(memory_of(pid))
    assert session_id in searched, "the search finds what a host does have: the session's id in a header"
    assert b"sectum" in searched
    assert not {name for name, needle in needles.items() if needle in searched}
    assert session_id in host.traffic
    assert len(host.traffic) > numbers.nbytes * 2
    assert not {name for name, needle in needles.items() if needle in host.traffic}
    for file in (path for path in rack.paths.directory.rglob("*") if path.is_file()):
        content = file.read_bytes()
        assert not {name for name, needle in needles.items() if needle in content or needle.hex().encode() in content}


def test_the_controller_does_not_see_batches(
    rack: Rack, used: tuple[Session, HostileHost, np.ndarray, np.ndarray]
) -> None:
    """The controller holds the control keys of the session, and neither its batches nor the released data keys."""
    session, _, numbers, answer = used
    pid = rack.launcher.controller.pid
    assert pid is not None
    secrets = secrets_of(session)
    needles = {"input": numbers.tobytes()[4096:4160], "result": answer.tobytes()[4096:4160], **secrets}
    found = found_in_memory(pid, needles)
    assert {"control up", "control down"} <= found, "the search finds the keys that are there"
    assert not found & {"input", "result", "data up", "data down"}


def test_nothing_of_a_tenant_is_left_when_its_enclave_was_cleaned(rack: Rack, doubler: bytes) -> None:
    """R7: after CLEANED the worker's process is gone, and no process of the service holds the input or the result."""
    numbers = marker(77)
    needles = {"input": numbers.tobytes()[4096:4160]}
    with rack.connect() as session:
        session.load(doubler)
        needles["result"] = session.infer(numbers).outputs["y"].tobytes()[4096:4160]
        pid = rack.serving_pid()
        assert found_in_memory(pid, needles), "the search finds what is there"
    assert not Path(f"/proc/{pid}").exists()
    host, controller = rack.launcher.host.pid, rack.launcher.controller.pid
    for other in [*rack.worker_pids(), host, controller]:
        if other is not None and Path(f"/proc/{other}").exists():
            assert not found_in_memory(other, needles)


def test_a_worker_killed_while_it_is_wiped_leaves_nothing(rack: Rack, doubler: bytes) -> None:
    """R7: a worker that dies during WIPE is collected before its accelerator is reassigned; the record says killed."""
    numbers = marker(78)
    session = rack.connect()
    session.load(doubler)
    needles = {"input": numbers.tobytes()[4096:4160], "result": (numbers * 2).tobytes()[4096:4160]}
    session.infer(numbers)
    pid = rack.serving_pid()
    os.kill(pid, signal.SIGSTOP)  # so that it cannot answer WIPE, and dies while it is asked to
    assert found_in_memory(pid, needles)
    session.close(0)
    collected = until(lambda: [event for event in rack.events("worker_collected") if event["pid"] == pid])
    assert [event["wiped"] for event in collected] == [False]
    assert session.cleaning is None or session.cleaning.ended == "killed"
    assert not Path(f"/proc/{pid}").exists()
    with rack.connect() as following:
        following.load(doubler)
        assert following.infer(marker(79)).outputs
        assert rack.serving_pid() != pid
        for other in (rack.serving_pid(), rack.launcher.host.pid, rack.launcher.controller.pid):
            assert other is not None
            assert not found_in_memory(other, needles)


def test_a_tenant_cannot_use_the_model_of_another(rack: Rack, doubler: bytes) -> None:
    """R5: a tenant that knows the hash of another tenant's loaded model is told that there is no such model."""
    with rack.connect() as owner, rack.connect() as other:
        loaded = owner.load(doubler)
        with pytest.raises(WorkRefused) as caught:
            other.submit(marker(3), model=loaded).result()
        assert caught.value.code is Refusal.NO_MODEL
        assert owner.infer(marker(3)).outputs


def test_private_keys_of_the_machine_are_in_the_controller_only(rack: Rack) -> None:
    """R8: the endorsement key is in no host and no worker; the worker's and host's memory have no attestation key."""
    until(rack.ready, what="a clean worker")
    key = load_pem_private_key((rack.paths.endorsement / "endorsement.key").read_bytes(), None)
    raw = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())  # type: ignore[union-attr, call-arg]
    pem = (rack.paths.endorsement / "endorsement.key").read_bytes().splitlines()[1]
    for pid in [*rack.worker_pids(), rack.launcher.host.pid]:
        assert pid is not None
        assert not found_in_memory(pid, {"raw": raw, "pem": pem})


def test_a_worker_holds_its_two_sockets_and_no_file(rack: Rack, doubler: bytes) -> None:
    """R2: descriptors 0-4 and nothing that leads to the network, to a file, or to another worker."""
    with rack.connect() as session:
        session.load(doubler)
        session.infer(marker(1))
        found = open_files(rack.serving_pid())
    assert {number: found[number] for number in (3, 4)} == {3: "socket:", 4: "socket:"}
    assert found[0] == "/dev/null"
    for number, target in found.items():
        assert number <= 4 or target.startswith(("anon_inode:", "/memfd:")), f"descriptor {number} is {target}"


def test_a_host_holds_sockets_and_pipes_only(rack: Rack, doubler: bytes) -> None:
    """R2: a host has no file open: it has sockets, pipes, /dev/null, and the folder in which the controller listens."""
    pid = rack.launcher.host.pid
    assert pid is not None
    with rack.connect() as session:
        session.load(doubler)
        found = open_files(pid)
    allowed = ("socket:", "pipe:", "anon_inode:", "/dev/null", str(rack.paths.socket.parent))
    assert not [target for target in found.values() if not target.startswith(allowed)]


def test_spare_workers_share_no_socket_with_each_other(rack: Rack) -> None:
    """R3: each worker has its own link and its own data socket; no two have the same."""
    until(lambda: len(rack.worker_pids()) >= 2, what="two workers")
    until(lambda: sum(worker["state"] == "spare" for worker in (rack.state() or {}).get("workers", ())) >= 2)
    sockets = [{str(Path(f"/proc/{pid}/fd/{number}").readlink()) for number in (3, 4)} for pid in rack.worker_pids()]
    assert all(len(pair) == 2 for pair in sockets)
    assert len(set.union(*sockets)) == 2 * len(sockets)


def test_what_is_vouched_for_is_confined(rack: Rack, doubler: bytes) -> None:
    """VOUCH says what confines the worker, and the kernel says the same: seccomp filters, no new privileges."""
    with rack.connect() as session:
        assert session._transport.enclave is not None
        vouch = session._transport.enclave.vouch
        status = Path(f"/proc/{rack.serving_pid()}/status").read_text()
    assert vouch.confinement
    seccomp = any("seccomp" in word for word in vouch.confinement)
    assert seccomp == ("Seccomp:\t2" in status)
    assert seccomp or any("seccomp" in word for word in vouch.unconfined)


def test_accelerators_of_two_tenants_are_never_the_same(rack: Rack, doubler: bytes) -> None:
    """R1: while two sessions compute, the service never shows one accelerator with two owners."""
    with rack.connect() as first, rack.connect() as second:
        for session in (first, second):
            session.load(doubler)
        until_s = time.monotonic() + 2
        while time.monotonic() < until_s:
            futures = [session.submit(marker(2)) for session in (first, second)]
            owned = [name for worker in (rack.state() or {})["workers"] for name in worker["accelerators"]]
            assert len(owned) == len(set(owned))
            for future in futures:
                future.result()
        pids = {event["pid"] for event in rack.events("vouched")[-2:]}
    assert len(pids) == 2
