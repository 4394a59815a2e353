"""The launcher provisions once, starts what dies, and says why something cannot start."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from sectum.errors import UsageError
from sectum.hetee import launcher
from sectum.hetee.errors import EvidenceRefused
from sectum.hetee.installation.enter import bind
from sectum.hetee.launcher import Launcher, RackPaths, RoleProcess, provision, state_directory


def test_an_endorsement_is_made_once(tmp_path: Path) -> None:
    """The first time makes a root and a key that others cannot read; later ones keep them."""
    paths = RackPaths(tmp_path / "rack")
    provision(paths)
    root = paths.root.read_text()
    assert (paths.endorsement / "endorsement.key").stat().st_mode & 0o077 == 0
    provision(paths)
    assert paths.root.read_text() == root
    (paths.endorsement / "endorsement.key").write_bytes(b"damaged")
    with pytest.raises(EvidenceRefused):
        provision(paths)


def test_a_path_that_no_socket_can_have_is_refused(tmp_path: Path) -> None:
    """A folder with a name that is too long for sockets is an error that says so, before anything is started."""
    with pytest.raises(UsageError) as caught:
        provision(RackPaths(tmp_path / ("long" * 30)))
    assert "--state" in str(caught.value)


def test_the_folder_follows_the_convention(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """XDG_STATE_HOME decides where the rack's folder is."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_directory() == tmp_path / "sectum" / "hetee"


@pytest.mark.slow
def test_a_role_is_started_again_ever_more_slowly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What dies at once is started again at once the first time, then after 0.1, 0.2 s, ...; not in a busy loop."""
    with (tmp_path / "log").open("ab") as log:
        role = RoleProcess("nothing_of_that_name", [], log)
        ends = []
        begun_s = time.monotonic()
        while len(ends) < 4:
            code = role.check()
            if code is not None:
                ends.append(time.monotonic() - begun_s)
                assert code == 1
            time.sleep(0.005)
    assert ends[2] - ends[1] >= 0.1
    assert ends[3] - ends[2] >= 0.2


@pytest.mark.slow
def test_why_a_role_cannot_start_is_said(tmp_path: Path) -> None:
    """The sentence that a role leaves with is in the launcher's error."""
    paths = RackPaths(tmp_path / "rack")
    provision(paths)
    made = Launcher(
        paths,
        listen="203.0.113.1:1",
        metrics="127.0.0.1:0",
        controller=["--accelerators", "cpu=1"],
        drain_s=0.1,
        tell=lambda _line: None,
    )
    try:
        with pytest.raises(UsageError) as caught:
            made.start(lambda: False, limit_s=30)
        assert "203.0.113.1" in str(caught.value)
    finally:
        made.stop()


def test_a_folder_has_one_rack(tmp_path: Path) -> None:
    """Two launchers in one folder would share a socket: the second is refused, also if its addresses are others."""
    paths = RackPaths(tmp_path / "rack")
    provision(paths)

    def made() -> Launcher:
        where = {"listen": "127.0.0.1:0", "metrics": "127.0.0.1:0"}
        return Launcher(paths, **where, controller=[], drain_s=0.1, tell=lambda _line: None)

    first = made()
    with pytest.raises(UsageError):
        made()
    first.stop()
    made().stop()


def test_the_socket_is_removed_at_the_end(tmp_path: Path) -> None:
    """The file of the controller's socket, which a confined controller cannot remove, does not outlive the rack."""
    paths = RackPaths(tmp_path / "rack")
    provision(paths)
    made = Launcher(
        paths, listen="127.0.0.1:0", metrics="127.0.0.1:0", controller=[], drain_s=0.1, tell=lambda _line: None
    )
    with bind(paths.socket):
        assert paths.socket.is_socket()
    made.stop()
    assert not paths.socket.exists()


def test_addresses_where_a_rack_answers_already_are_refused(tmp_path: Path) -> None:
    """An answer from another rack is not mistaken for this rack's."""
    paths = RackPaths(tmp_path / "rack")
    provision(paths)
    made = Launcher(
        paths, listen="127.0.0.1:0", metrics="127.0.0.1:0", controller=[], drain_s=0.1, tell=lambda _line: None
    )
    with pytest.raises(UsageError):
        made.start(lambda: True)
    assert made.controller.pid is None
    made.stop()


def test_who_is_stopped_before_it_is_ready_is_no_error(tmp_path: Path) -> None:
    """Ctrl-C while nothing is started yet starts nothing, and is not taken for another rack's answer."""
    paths = RackPaths(tmp_path / "rack")
    provision(paths)
    made = Launcher(
        paths, listen="127.0.0.1:0", metrics="127.0.0.1:0", controller=[], drain_s=0.1, tell=lambda _line: None
    )
    made.start(lambda: False, stopped=lambda: True)
    assert made.controller.pid is None
    made.stop()


def test_what_keeps_every_worker_from_starting_is_said(tmp_path: Path) -> None:
    """When workers end before they are ready, their own error is reported."""
    paths = RackPaths(tmp_path / "rack")
    provision(paths)
    made = Launcher(
        paths, listen="127.0.0.1:0", metrics="127.0.0.1:0", controller=[], drain_s=0.1, tell=lambda _line: None
    )
    late = '{"role": "controller", "event": "worker_not_started", "why": "it ended before it was ready"}\n'
    refused = '{"role": "worker", "event": "refused", "detail": "cuda:0: this ONNX Runtime was not built for it"}\n'
    paths.log.write_text(late * 3)
    made._check_workers(0)
    paths.log.write_text((refused + late) * 2 + '{"role": "wor')
    with pytest.raises(UsageError) as caught:
        made._check_workers(0)
    assert "cuda:0" in str(caught.value)
    made.stop()


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has collected yet does not."""
    try:
        return "Z (zombie)" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


LAUNCHER = """
import sys, time
from pathlib import Path
from sectum.hetee.launcher import Launcher, RackPaths
paths = RackPaths(Path(sys.argv[1]))
made = Launcher(
    paths, listen="127.0.0.1:0", metrics="127.0.0.1:0", controller=[], drain_s=0.1, tell=lambda _line: None
)
for role in (made.controller, made.host):
    role.check()
while "ready" not in paths.log.read_text():
    time.sleep(0.05)
print(made.controller.pid, made.host.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_roles_end_when_their_launcher_is_killed(tmp_path: Path) -> None:
    """When the launcher is killed, the kernel ends its roles."""
    paths = RackPaths(tmp_path / "rack")
    provision(paths)
    # A process of its own, not a fork: the tests' process may be too large to be copied.
    with subprocess.Popen([sys.executable, "-P", "-c", LAUNCHER, paths.directory], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        pids = [int(word) for word in child.stdout.readline().split()]
        child.kill()
    assert len(pids) == 2
    until_s = time.monotonic() + 20
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < until_s
        time.sleep(0.05)
    assert launcher.__doc__
