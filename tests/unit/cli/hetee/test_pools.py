"""Commands for pools: wrong uses end with a sentence, and what a pool tells is shown."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from sectum.cli.hetee.opened import close_pool, pool_json, show_pool, tell_unproven
from sectum.hetee.client.pool import Move, PoolSession, RackReport
from sectum.hetee.errors import CleaningUnproven, Refusal, refusal
from sectum.hetee.installed_policy import policy_file
from sectum.hetee.inventory import Inventory, RackEntry
from sectum.hetee.launcher import RackPaths, provision
from sectum.hetee.verification.policy import Policy

Run = Callable[..., Result]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The folder of a rack, and of a pool, that do not run."""
    paths = RackPaths(tmp_path / "rack")
    provision(paths)
    measured = {"controller": ("00" * 32,), "worker": ("00" * 32,)}
    root = paths.root.read_text(encoding="ascii").strip()
    paths.policy.write_bytes(policy_file(Policy(formats=("software",), measurements=measured, roots=(root,))))
    return paths.directory


@pytest.fixture
def jpeg(tmp_path: Path) -> Path:
    """What begins as a JPEG does."""
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0")
    return path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--rack", "hetee://a:1", "--pool", "a:2"], "--url, --rack and --pool contradict each other"),
        (["--url", "hetee://a:1", "--rack", "hetee://b:1"], "--url, --rack and --pool contradict each other"),
        (["--rack", "http://a"], "'http://a' is not an address"),
        (["--pool", "nowhere"], "'nowhere' is not an address: write for example"),
    ],
)
def test_racks_are_named_in_one_way(run: Run, tiny: Path, jpeg: Path, state: Path, words: list[str], says: str) -> None:
    """Addresses that contradict each other or are none are refused before anything is sent."""
    done = run("hetee", "infer", tiny, jpeg, "--state", state, *words)
    assert done.exit_code == 2
    assert says in done.output


def test_a_pool_that_does_not_answer_is_told(run: Run, tiny: Path, jpeg: Path, state: Path) -> None:
    """The message says what to check."""
    done = run("hetee", "infer", tiny, jpeg, "--state", state, "--pool", "127.0.0.1:1")
    assert done.exit_code == 46
    assert "no pool answers at 127.0.0.1:1" in done.output
    assert "sectum hetee up --pool ray" in done.output


def test_a_pool_without_a_policy_is_told(run: Run, tiny: Path, jpeg: Path, tmp_path: Path) -> None:
    """Nobody is asked for racks before it is known what to accept."""
    done = run("hetee", "infer", tiny, jpeg, "--state", tmp_path, "--pool", "127.0.0.1:1")
    assert done.exit_code == 2
    assert f"no policy of a pool in {tmp_path}" in done.output


@pytest.mark.parametrize("words", [["--address", "a:1"], ["--unauthenticated"], ["--credentials", "folder"]])
def test_options_of_ray_need_ray(run: Run, words: list[str]) -> None:
    """An option that would have no effect is refused."""
    done = run("hetee", "up", *words)
    assert done.exit_code == 2
    assert f"{words[0]} needs --pool ray" in done.output


def test_a_pool_without_port_or_with_a_wrong_address_is_told(run: Run, tmp_path: Path) -> None:
    """What is wrong is said before Ray is started or asked."""
    where = ("hetee", "up", "--pool", "ray", "--state", tmp_path / "pool", "--metrics", "127.0.0.1:0")
    assert "has no port for racks" in run(*where, "--listen", "0.0.0.0:65000").output
    assert "write HOST:PORT of the head node" in run(*where, "--address", "ray://a:1").output
    assert "has no 'token'" in run(*where, "--address", "127.0.0.1:1", "--credentials", tmp_path).output


def test_credentials_are_made_for_each_node(run: Run, tmp_path: Path) -> None:
    """Each node gets a folder, and the command says where it belongs."""
    done = run("hetee", "credentials", tmp_path / "made", "--node", "10.0.0.7", "--node", "fe80::1", "--json")
    assert done.exit_code == 0, done.output
    folders = json.loads(done.output)["folders"]
    assert all((Path(folder) / "token").is_file() for folder in folders.values())
    assert folders["fe80::1"].endswith("fe80--1")
    assert "copy" in run("hetee", "credentials", tmp_path / "more", "--node", "10.0.0.7").output
    for nodes in (("a", "a"), ("../a",), ("..",)):
        words = [word for node in nodes for word in ("--node", node)]
        assert run("hetee", "credentials", tmp_path / "none", *words).exit_code == 2


def test_top_shows_the_racks_of_a_pool(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rack has a line with its address, free accelerators and state; those that do not serve say why."""
    racks = (
        RackEntry("north", "hetee://10.0.0.7:7625", {"cpu": 4}, {"cpu": 1}, healthy=True, sessions=2, restarts=3),
        RackEntry("south", "", problems=("it is being started",)),
    )
    told = json.loads(msgspec.json.encode(Inventory("ray", racks)))
    monkeypatch.setattr(importlib.import_module("sectum.cli.hetee.top"), "ask", lambda _address: told)
    output = run("hetee", "top", "--once").output
    assert "1 of 2 racks serve" in output
    assert "1 of 4 cpu" in output
    assert "it is being started" in output
    assert json.loads(run("hetee", "top", "--json").output) == told


def lost_session(racks: tuple[RackReport, ...], moves: tuple[Move, ...]) -> PoolSession:
    """A session over a pool that has lost a rack."""

    class Lost(PoolSession):
        def __init__(self) -> None:
            pass

        racks = property(lambda _self: told[0])  # type: ignore[assignment]
        moves = property(lambda _self: told[1])  # type: ignore[assignment]

        def close(self, deadline_ms: int = 5000) -> None:
            raise CleaningUnproven(Refusal.UNPROVEN, "no record")

    told: Any = (racks, moves)
    return Lost()


def test_what_became_of_racks_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """People and programs learn who answered, who was lost and why; the missing record is an error for the end."""
    trust: Any = SimpleNamespace(
        controller=SimpleNamespace(format="software", hardware=False, device=b"\x01" * 17), worker=None
    )
    error = refusal(Refusal.HOST_LOST, "the connection to the host ended")
    session = lost_session(
        (RackReport("a", "lost", 2, 1, trust, error), RackReport("b", "serving", 5, 0, trust, None)),
        (Move("a", "b", 50, error),),
    )
    found = pool_json(session)
    assert [(rack["url"], rack["answered"], rack["unproven"]) for rack in found["racks"]] == [("a", 2, 1), ("b", 5, 0)]
    assert found["racks"][0]["evidence"] == {"format": "software", "hardware": False, "device": "01" * 17}
    assert found["moves"][0]["step"] == 50
    show_pool(session, "steps")
    output = capsys.readouterr().out
    assert "a was lost; b went on after step 50" in output
    assert "no hardware protects this" in output
    assert isinstance(close_pool(session), CleaningUnproven)
    alone: Any = object()
    assert pool_json(alone) == {}
    assert close_pool(alone) is None


def test_programs_get_one_json_and_an_exit_code() -> None:
    """A missing record is an error for people, and for programs, whose JSON was printed, an exit code beside it."""
    error = CleaningUnproven(Refusal.UNPROVEN, "no record")

    @click.command()
    def ending() -> None:
        tell_unproven(None, as_json=True)
        tell_unproven(error, as_json=True)

    done = CliRunner().invoke(ending)
    assert (done.exit_code, done.stdout) == (48, "")
    assert "no record" in done.stderr
    with pytest.raises(CleaningUnproven):
        tell_unproven(error, as_json=False)
