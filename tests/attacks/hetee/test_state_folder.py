"""An ordinary user who prepares the folder of a rack for whoever starts one there, such as root, gains nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hetee_rack import free_port
from places import SUPPORT
from sectum.errors import UsageError
from sectum.hetee.installation.manufacture import manufacture, store
from sectum.hetee.launcher import RackPaths

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="roles with users of their own need root"),
]

NOBODY = 65534


def give_away(folder: Path) -> None:
    """Make a folder and all in it another user's."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def own_key(folder: Path) -> None:
    """Put an endorsement there whose key the other user knows: he could pretend to be the rack."""
    store(manufacture(), RackPaths(folder).endorsement)
    give_away(folder)


def everybody_writes(folder: Path) -> None:
    """Let everybody replace the files of a folder."""
    folder.chmod(0o777)


def group_writes(folder: Path) -> None:
    """Let another group replace the files of a folder."""
    os.chown(folder, 0, NOBODY)
    folder.chmod(0o770)


def linked_log(folder: Path) -> None:
    """Let the log be a file elsewhere, which whoever starts the rack may write."""
    (folder.parent / "victim").touch()
    RackPaths(folder).log.symlink_to(folder.parent / "victim")
    give_away(folder)


def linked_run(folder: Path) -> None:
    """Let the folder of the socket be one elsewhere, whose owner would change."""
    (folder.parent / "elsewhere").mkdir()
    RackPaths(folder).socket.parent.symlink_to(folder.parent / "elsewhere")
    give_away(folder)


@pytest.mark.parametrize("prepare", [own_key, everybody_writes, group_writes, linked_log, linked_run])
def test_a_folder_that_another_user_can_change_is_refused(tmp_path: Path, prepare: Callable[[Path], None]) -> None:
    """``sectum hetee up`` starts no rack in a folder in which somebody else can replace keys, log or socket."""
    folder = tmp_path / "rack"
    folder.mkdir(mode=0o700)
    prepare(folder)
    before = {path: path.lstat() for path in sorted(tmp_path.rglob("*"))}
    command = [
        sys.executable,
        "-c",
        "from sectum.cli.main import main; main()",
        "hetee",
        "up",
        "--accelerators",
        "cpu=1",
    ]
    places = ["--listen", f"127.0.0.1:{free_port()}", "--metrics", f"127.0.0.1:{free_port()}"]
    with subprocess.Popen(
        [*command, *places, "--state", str(folder), "--accelerators", "cpu=1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(SUPPORT.parents[1] / "src"), *sys.path))},
    ) as rack:
        try:
            said, error = rack.communicate(timeout=120)
        except subprocess.TimeoutExpired:  # it serves
            rack.terminate()
            said, error = rack.communicate()
    assert rack.returncode == UsageError.exit_code, (said, error)
    assert "other users" in error
    after = {path: path.lstat() for path in sorted(tmp_path.rglob("*"))}
    changed = [path for path, now in after.items() if path not in before or now[:7] != before[path][:7]]
    assert not changed
