"""R2, R8: a host or a controller that was taken over cannot reach keys, other roles, or the machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hetee_rack import Rack, found_in_memory, until
from places import SUPPORT
from sectum.hetee.confinement.required import CONFINEMENT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="roles with users of their own need root"),
]

HOSTILE = SUPPORT / "hetee_hostile_role.py"
STRANGERS_USER = 65534
STRANGER = """
import os, socket, sys

group, user = map(int, sys.argv[1:3])
os.setgroups([])
os.setresgid(group, group, group)
os.setresuid(user, user, user)
with socket.socket(socket.AF_UNIX) as peer:
    peer.settimeout(5)
    peer.connect(sys.argv[3])
    print("closed" if peer.recv(1) == b"" else "answered", end="")
"""


def run(rack: Rack, tmp_path: Path, role: str, how: str) -> tuple[dict[str, str], list[str]]:
    """What a hostile role achieves beside a running rack."""
    until(rack.ready, what="a spare worker")
    tmp_path.chmod(0o777)
    (tmp_path / "to-be-deleted").touch()
    facts: dict[str, Any] = {
        "key": str(rack.paths.endorsement / "endorsement.key"),
        "log": str(rack.paths.log),
        "socket": str(rack.paths.socket) if role == "host" else str(tmp_path / "run" / "controller.sock"),
        "scratch": str(tmp_path),
        "port": rack.port,
        "controller": rack.launcher.controller.pid,
        "host": rack.launcher.host.pid,
        "worker": rack.worker_pids()[0],
    }
    command = [sys.executable, "-P", str(HOSTILE), role, how, json.dumps(facts)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=60, check=True, env=environment
    )
    told = json.loads(done.stdout)
    return told["outcomes"], told["unconfined"]


@pytest.mark.parametrize("role", ["host", "controller"])
def test_a_role_that_was_taken_over_reaches_nothing(rack: Rack, tmp_path: Path, role: str) -> None:
    """Confined, no attempt succeeds: not on the key, nor on the log, on files, on the network, or on another role."""
    outcomes, unconfined = run(rack, tmp_path, role, "confined")
    assert {name: outcome for name, outcome in outcomes.items() if outcome.startswith("DONE")} == {}
    assert not unconfined
    assert len(outcomes) > 20
    assert not (tmp_path / "written").exists()
    assert (tmp_path / "to-be-deleted").exists()


@pytest.mark.parametrize("role", ["host", "controller"])
def test_without_confinement_the_same_attempts_succeed(rack: Rack, tmp_path: Path, role: str) -> None:
    """Each attempt is one that a process without confinement, as both roles once were, succeeds with."""
    outcomes, _ = run(rack, tmp_path, role, "free")
    failed = {name for name, outcome in outcomes.items() if not outcome.startswith("DONE")}
    assert failed <= {"bpf"}


def test_roles_have_users_of_their_own(rack: Rack) -> None:
    """Controller, host and each worker have different user ids, none of them root, and no capability of the machine."""
    until(lambda: len(rack.worker_pids()) >= 2 and rack.ready(), what="two workers")
    pids = [rack.launcher.controller.pid, rack.launcher.host.pid, *rack.worker_pids()]
    found = [dict(line.split(":\t", 1) for line in status(pid).splitlines() if ":\t" in line) for pid in pids]
    users = [words["Uid"].split() for words in found]
    assert all(len(set(ids)) == 1 for ids in users), "real, effective and saved ids are the same"
    assert len({ids[0] for ids in users}) == len(pids)
    assert "0" not in {ids[0] for ids in users}
    assert all(words["NoNewPrivs"] == "1" and words["Seccomp"] == "2" for words in found)
    kill_and_users_and_locked = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 14
    assert int(found[0]["CapEff"], 16) == kill_and_users_and_locked
    assert {int(words["CapEff"], 16) for words in found[1:]} == {0}


def status(pid: int | None) -> str:
    """What the kernel says of a process."""
    return Path(f"/proc/{pid}/status").read_text()


def test_the_endorsement_key_is_for_root_only(rack: Rack) -> None:
    """The key's file belongs to root, and the controller's copy of it is gone once it was read."""
    key = rack.paths.endorsement / "endorsement.key"
    assert (key.stat().st_uid, key.stat().st_mode & 0o777) == (0, 0o600)
    copies = Path(f"/proc/{rack.launcher.controller.pid}/root/endorsement")
    assert list(copies.iterdir()) == []
    host = rack.launcher.host.pid
    assert host is not None
    assert not found_in_memory(host, {"pem": key.read_bytes().splitlines()[1]})


def test_a_controller_sees_its_images_only(rack: Rack) -> None:
    """In the controller's root folder are its images, the folder of its socket, and what the kernel provides."""
    root = Path(f"/proc/{rack.launcher.controller.pid}/root")
    assert {path.name for path in root.iterdir()} == {
        "controller",
        "worker",
        "caches",
        "endorsement",
        "reference",
        "run",
        "start",
        "proc",
        "dev",
    }
    assert {path.name for path in (root / "dev").iterdir()} == {"null", "urandom"}
    for image in ("controller", "worker"):
        with pytest.raises(OSError, match="Read-only"):
            (root / image / "bin" / "python").write_bytes(b"")


def test_evidence_says_what_confines_controller_and_worker(rack: Rack, doubler: bytes) -> None:
    """The claims that a client accepted name all confinement that its default policy requires, of both roles."""
    with rack.connect() as session:
        session.load(doubler)
        session.infer(np.zeros(10, np.float32))
        for role, claims in (("controller", session.trust.controller), ("worker", session.trust.worker)):
            assert claims is not None
            assert set(CONFINEMENT[role]) <= set(claims.confinement)
            assert "own-user" in claims.confinement or role == "controller"


def test_a_stranger_cannot_talk_to_the_controller(rack: Rack) -> None:
    """The controller takes connections of host and operator only, and the folder of its socket lets others not look."""
    folder = os.open(rack.paths.socket.parent, os.O_PATH)
    try:
        there = os.fstat(folder)
        assert there.st_mode & 0o007 == 0
        # With the folder open and in its group, which an attacker is not: so only the controller itself can refuse.
        path = f"/proc/self/fd/{folder}/{rack.paths.socket.name}"
        command = [sys.executable, "-P", "-c", STRANGER, str(there.st_gid), str(STRANGERS_USER), path]
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=30, check=True, pass_fds=(folder,))
    finally:
        os.close(folder)
    assert done.stdout == b"closed"
    until(lambda: [event for event in rack.events("stranger_refused") if event["user"] == STRANGERS_USER])


def test_logs_are_pipes(rack: Rack) -> None:
    """Standard output and error of each role are pipes of its own, so that no role can read or change the log."""
    pids = [rack.launcher.controller.pid, rack.launcher.host.pid, *rack.worker_pids()]
    targets = []
    for pid in pids:
        out, error = (str(Path(f"/proc/{pid}/fd/{number}").readlink()) for number in (1, 2))
        assert out == error
        assert re.fullmatch(r"pipe:\[\d+\]", out)
        targets.append(out)
    assert len(set(targets)) == len(targets)


def test_a_worker_sees_no_process_but_its_own(rack: Rack) -> None:
    """Each worker that is ready is the first process of a PID namespace of its own, and a child of the controller."""

    def first_ones() -> list[int]:
        ids = {pid: re.search(r"^NSpid:\s+(.*)$", status(pid), re.M) for pid in rack.worker_pids()}
        return [pid for pid, found in ids.items() if found is not None and found[1].split()[1:] == ["1"]]

    until(lambda: len(first_ones()) >= 2 and set(first_ones()) == set(rack.worker_pids()), what="two workers")
    pids = [rack.launcher.controller.pid, *first_ones()]
    assert len({Path(f"/proc/{pid}/ns/pid").readlink() for pid in pids}) == len(pids)
