"""``sectum hetee resize`` reaches a session of the same user, and says what came of it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from sectum.cli.hetee.resizable import _at, ask, resizable, sessions
from sectum.errors import UsageError
from sectum.hetee.errors import Refusal, ServiceRefused, refusal

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the state of this user, with a longer path than that of a socket may be."""
    folder = tmp_path / ("long" * 30)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder / "sectum" / "hetee" / "sessions"


def four(count: int, *, wait_s: float) -> tuple[str, ...]:
    """An enclave on a service with four accelerators."""
    if count > 4:
        raise refusal(Refusal.NO_ACCELERATOR, f"{count} asked for")
    return tuple(f"cpu:{number}" for number in range(min(count, 1 if wait_s < 1 else 4)))


def test_a_running_session_is_resized(run: Run) -> None:
    """The only session that runs is found, and its process is asked; the answer names the accelerators."""
    with resizable("infer", four):
        done = run("hetee", "resize", "3", "--json")
    assert json.loads(done.stdout) == {
        "process": os.getpid(),
        "command": "infer",
        "accelerators": ["cpu:0", "cpu:1", "cpu:2"],
    }


def test_what_the_service_refuses_is_said_as_the_session_would_say_it(run: Run) -> None:
    """A refusal comes back with its code, so that the command ends with the exit code of that error."""
    with resizable("infer", four):
        done = run("hetee", "resize", "5")
        with pytest.raises(ServiceRefused) as caught:
            ask(os.getpid(), "infer", 5, 60)
    assert caught.value.code is Refusal.NO_ACCELERATOR
    assert done.exit_code == ServiceRefused.exit_code
    assert "5 asked for" in done.output


def test_fewer_than_asked_for_is_said(run: Run) -> None:
    """An enclave that is to have more, and waits for its turn, is not said to have them."""
    with resizable("train", four):
        assert "is to have 4, and has 1" in run("hetee", "resize", "4", "--wait", "0.5").stdout


def test_only_the_user_enters_the_folder(home: Path) -> None:
    """Nobody else can ask: the folder is the user's alone, and the socket is gone with the session."""
    with resizable("infer", four):
        assert home.stat().st_mode & 0o777 == 0o700
        assert sessions() == {os.getpid(): "infer"}
    assert list(home.iterdir()) == []


def test_a_session_whose_process_died_is_forgotten(run: Run, home: Path) -> None:
    """A socket that was left behind is no session."""
    home.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as left, _at("4711-infer") as path:
        left.bind(path)
    done = run("hetee", "resize", "2")
    assert done.exit_code == UsageError.exit_code
    assert "no session of yours runs here" in done.output
    assert list(home.iterdir()) == []


def test_one_of_several_sessions_has_to_be_named(run: Run) -> None:
    """With several sessions the command lists them, and changes none."""
    with resizable("infer", four), socket.socket(socket.AF_UNIX) as other, _at("1-train") as path:
        other.bind(path)
        other.listen()
        assert "choose one with --process" in run("hetee", "resize", "2").output
        assert run("hetee", "resize", "2", "--process", str(os.getpid())).exit_code == 0
        assert "no session" in run("hetee", "resize", "2", "--process", "77").output


def test_what_is_no_request_changes_nothing() -> None:
    """Bytes that are not understood are answered with an error, and the session can still be resized."""
    with resizable("infer", four):
        for data in (b"\n", b"{}\n", b'{"count": "x", "wait_s": 1}\n', b"[" * 9000):
            with socket.socket(socket.AF_UNIX) as asking, _at(f"{os.getpid()}-infer") as path:
                asking.connect(path)
                asking.sendall(data)
                assert b"not understood" in asking.recv(4096)
        assert ask(os.getpid(), "infer", 2, 60) == ["cpu:0", "cpu:1"]


def test_a_session_runs_without_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no socket can be made, the session runs, and cannot be resized from outside."""
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    with resizable("infer", four):
        assert sessions() == {}
