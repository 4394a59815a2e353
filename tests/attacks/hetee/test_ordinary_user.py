"""A rack that an ordinary user starts is separated by namespaces, and accepted by the default policy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hetee_installation import Installation, RunningService
from hetee_rack import found_in_memory
from places import SUPPORT
from sectum.hetee.client import connect, read_policy_file

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user to test this"),
]

USER = 54321


def usable_by_others(path: Path) -> bool:
    """Whether every user can read a file and enter the folders above it."""
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in path.resolve().parents)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can enter; pytest keeps its own for their owner."""
    made = Path(tempfile.mkdtemp(prefix="sectum-user-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def service(folder: Path) -> RunningService:
    """A rack of an ordinary user, from an installation that she can read."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [Path(sys._base_executable), Path("/usr/bin", name)]  # type: ignore[attr-defined]
    base = next((path for path in candidates if path.is_file() and usable_by_others(path)), None)
    packages = [Path(path) for path in sys.path if "site-packages" in path]
    if base is None or not all(map(usable_by_others, packages)):
        pytest.skip("the interpreter or its packages are not readable for other users")
    installation = Installation(folder / "installation", base.resolve())
    state = folder / "home" / "state"
    state.parent.mkdir()
    os.chown(state.parent, USER, USER)
    return RunningService(installation, state, {"HOME": str(state.parent)}, user=USER)


def test_an_ordinary_user_s_rack_is_confined(service: RunningService, doubler: bytes) -> None:
    """The default policy accepts it: own user namespaces and roots in place of own users; the host reaches no key."""
    with service:
        policy = read_policy_file(service.state / "policy.json")
        numbers = np.arange(10, dtype=np.float32)
        with connect(service.url, policy) as session:
            session.load(doubler)
            np.testing.assert_array_equal(session.infer(numbers).outputs["y"], numbers * 2)
            claims = session.trust.controller
            assert claims is not None
            assert {"apart-from-host", "private-root", "measured-code", "seccomp"} <= set(claims.confinement)
        pids = {
            role: next(pid for pid in children(service._process.pid) if role in words(pid))
            for role in ("hetee.host", "hetee.controller")
        }
        spaces = {role: Path(f"/proc/{pid}/ns/user").readlink() for role, pid in pids.items()}
        assert len({*spaces.values(), Path("/proc/self/ns/user").readlink()}) == 2
        pem = (service.state / "endorsement" / "endorsement.key").read_bytes().splitlines()[1]
        assert not found_in_memory(pids["hetee.host"], {"pem": pem})
        (ready,) = [event for event in service.log() if event["event"] == "ready" and event["role"] == "host"]
        assert {"landlock", "seccomp", "not-dumpable"} <= set(ready["confinement"])


def test_a_host_that_was_taken_over_reaches_nothing(service: RunningService, folder: Path) -> None:
    """A host of the same user, confined as it is, gets neither the key nor the log, and nothing of other roles."""
    with service:
        pids = {
            role: next(pid for pid in children(service._process.pid) if role in words(pid))
            for role in ("hetee.host", "hetee.controller")
        }
        scratch = folder / "scratch"
        scratch.mkdir()
        (scratch / "to-be-deleted").touch()
        for path in (scratch, scratch / "to-be-deleted"):
            os.chown(path, USER, USER)
        shutil.copy(SUPPORT / "hetee_hostile_role.py", folder / "hostile.py")
        facts = {
            "key": str(service.state / "endorsement" / "endorsement.key"),
            "log": str(service.state / "log.jsonl"),
            "socket": str(service.state / "run" / "controller.sock"),
            "scratch": str(scratch),
            "port": int(service.url.rpartition(":")[2]),
            "controller": pids["hetee.controller"],
            "host": pids["hetee.host"],
            "worker": children(pids["hetee.controller"])[0],
        }
        command = [service.installation.command, "-P", folder / "hostile.py", "host", "confined", json.dumps(facts)]
        done = subprocess.run(
            [str(word) for word in command],
            user=USER,
            group=USER,
            extra_groups=[],
            env=service.installation.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=60,
            check=True,
        )
    told = json.loads(done.stdout)
    assert {name: outcome for name, outcome in told["outcomes"].items() if outcome.startswith("DONE")} == {}
    assert len(told["outcomes"]) > 20
    assert not told["unconfined"]


def children(pid: int) -> list[int]:
    """The children of a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def words(pid: int) -> str:
    """The command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")


def test_the_copies_are_in_memory_of_the_controller_only(service: RunningService) -> None:
    """The folder of the rack holds no copy of the software that another process of the user could change."""
    with service:
        assert list((service.state / "run" / "software").iterdir()) == []
