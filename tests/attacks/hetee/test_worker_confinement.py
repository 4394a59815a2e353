"""A compromised worker cannot get a file, a socket, a process or a privilege (rules R2, R5, R8)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hetee_worker_peer import WorkerUnderTest
from places import SUPPORT

pytestmark = pytest.mark.slow

HOSTILE = SUPPORT / "hetee_hostile_worker.py"

# What an attack gets when layers are missing. Nothing of it reaches a file, a network or another process.
GOT_WITHOUT = {
    ("landlock",): set(),
    ("user-namespace",): set(),
    ("no-new-descriptors",): set(),
    ("seccomp",): {
        *("fork", "executable memory", "dumpable again", "keyring", "namespace"),
        *("freed descriptor", "hand a descriptor away", "shared memory", "growing memory"),
    },
    ("seccomp", "no-new-descriptors"): {
        *("fork", "executable memory", "dumpable again", "keyring", "namespace"),
        *("freed descriptor", "hand a descriptor away", "shared memory", "growing memory"),
        *(
            "watch the parent",
            "UDP",
            "Unix socket",
            "netlink",
            "file in memory",
            "another descriptor",
            "io_uring",
            "pushed descriptor",
        ),
    },
}


def run(*arguments: str) -> dict[str, Any]:
    """Start the hostile worker with a data socket as standard input, push a descriptor to it, and read what it says."""
    data, its_data = socket.socketpair()
    with data, its_data:
        for _ in range(2):
            socket.send_fds(data, [b"x"], [os.open("/", os.O_RDONLY)])
        command = [sys.executable, "-P", str(HOSTILE), *arguments]
        done = subprocess.run(command, stdin=its_data, capture_output=True, check=True)
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


def test_every_way_out_is_closed() -> None:
    """With all confinement that this kernel supports, no attempt succeeds."""
    outcomes = run()["outcomes"]
    assert {name: result for name, result in outcomes.items() if result.startswith("DONE")} == {}
    assert len(outcomes) > 20
    assert not Path("/tmp/left-by-a-worker").exists()


@pytest.mark.parametrize("layers", GOT_WITHOUT, ids="+".join)
def test_layers_do_not_lean_on_each_other(layers: tuple[str, ...]) -> None:
    """Without some layers, files, networks and other processes stay out of reach, and the report says which."""
    told = run(*layers)
    done = {name for name, result in told["outcomes"].items() if result.startswith("DONE")}
    assert done <= GOT_WITHOUT[layers]
    for layer in layers:
        assert any(line.startswith(f"{layer}: ") for line in told["report"][1])
        assert layer not in told["report"][0]


def test_a_real_worker_is_confined_by_what_it_says() -> None:
    """STARTED agrees with the kernel about the process: filter, privileges, namespaces, root, descriptors."""
    with WorkerUnderTest() as worker:
        proc = Path(f"/proc/{worker.process.pid}")
        status = dict(line.split(":\t") for line in (proc / "status").read_text().splitlines() if ":\t" in line)
        got = set(worker.started.confinement)
        assert {"seccomp", "no-new-privileges", "no-new-descriptors", "dies-with-parent"} <= got
        assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
        assert sorted(path.name for path in (proc / "fd").iterdir()) == ["0", "1", "2", "3", "4"]
        assert ("no-capabilities" in got) == (int(status["CapEff"], 16) == 0)
        if "empty-root" in got:
            assert list((proc / "root").iterdir()) == []
        for name, kind in (("network-namespace", "net"), ("mount-namespace", "mnt"), ("user-namespace", "user")):
            assert (name in got) == ((proc / "ns" / kind).readlink() != Path("/proc/self/ns", kind).readlink())
        assert int(status["Threads"]) == 1


def test_what_is_missing_is_reported() -> None:
    """A step that the kernel refuses is in the report, with a reason that fits into a message."""
    told = run("user-namespace")
    assert all(len(line) <= 64 for line in told["report"][1])
    assert not set(told["report"][0]) & {"network-namespace", "empty-root"}


def test_a_pushed_descriptor_is_dropped() -> None:
    """A host that pushes a descriptor through the data socket gives the worker nothing."""
    assert run()["outcomes"]["pushed descriptor"] == "EPERM"
    assert run("seccomp")["outcomes"]["pushed descriptor"] == "EMFILE"
