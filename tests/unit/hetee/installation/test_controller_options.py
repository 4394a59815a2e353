"""The options of a controller are checked before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from sectum.hetee.installation.controller_options import parser, start
from sectum.hetee.installation.controller_options import read as read_options

ALICE, BOB = b"a" * 32, b"b" * 32


def read(place: Path, text: str) -> object:
    """What ``--admit`` says with a file of this content."""
    file = place / "admitted"
    file.write_text(text)
    needed = ["--socket", "s", "--endorsement", "e", "--reference", "r"]
    return parser().parse_args([*needed, "--admit", str(file)]).admit


def test_admitted_keys_have_priorities(tmp_path: Path) -> None:
    """A key without a priority has 0; with one, its share doubles with each step."""
    assert read(tmp_path, f"{ALICE.hex()}\n{BOB.hex()}:3\n") == {ALICE: 0, BOB: 3}


@pytest.mark.parametrize("text", ["xyz", ALICE.hex()[2:], f"{ALICE.hex()}:8", f"{ALICE.hex()}:-1", f"{ALICE.hex()}:x"])
def test_what_is_no_list_of_keys_is_refused(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A file with anything else ends the command with its usage code, and names the file."""
    with pytest.raises(SystemExit) as ended:
        read(tmp_path, text)
    assert ended.value.code == 2
    assert str(tmp_path / "admitted") in capsys.readouterr().err


@pytest.mark.parametrize(("words", "seconds"), [((), 30.0), (("--training",), 120.0)])
def test_a_worker_that_trains_has_longer_to_start(words: tuple[str, ...], seconds: float) -> None:
    """Loading PyTorch on a busy machine takes longer than other workers may need, and is not taken for a failure."""
    needed = ["--socket", "s", "--endorsement", "e", "--reference", "r"]
    begun = start(parser().parse_args([*needed, *words]), Path("place"), 0, 0, 0)
    assert begun.settings.starting_s == seconds


@pytest.mark.parametrize("text", ["gpu=1", "cpu=0", "cpu=65", "cpu", "cpu=1,"])
def test_accelerators_that_are_none_are_refused_with_the_kinds(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong kind or number ends the command, and the message names the kinds that there are."""
    needed = ["--socket", "s", "--endorsement", "e", "--reference", "r"]
    with pytest.raises(SystemExit):
        parser().parse_args([*needed, "--accelerators", text])
    assert "a kind of cpu, cuda, paced and a number from 1 to 64" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "least"), [((), 128), (("--training",), 320)])
def test_a_worker_gets_no_less_memory_than_it_holds(
    words: tuple[str, ...], least: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit under which every worker would end as soon as a client needs it is refused before the start."""
    needed = ["--socket", "s", "--endorsement", "e", "--reference", "r", *words]
    assert read_options([*needed, "--memory-mib", str(least)]).memory_mib == least
    with pytest.raises(SystemExit) as ended:
        read_options([*needed, "--memory-mib", str(least - 1)])
    assert ended.value.code == 2
    assert f"argument --memory-mib: {least - 1} is too little" in capsys.readouterr().err
