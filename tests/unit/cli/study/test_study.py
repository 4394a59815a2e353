"""What is seen in a study is told in words, as a page, as JSON and in pictures; all from what is stored."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from places import ROOT
from sectum.cli.study.words import in_words
from sectum.lab.study.observations import OBSERVATIONS
from sectum.lab.study.store import StudyWriter
from study_records import cases, fill, record

pytest.importorskip("pyarrow", reason="shards are Parquet: install sectum[train]")

Run = Callable[..., Result]
PICTURES = {"latency", "loads", "page-cost", "addition", "slowdown", "batch"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("study"))


def test_every_observation_is_told_with_its_numbers(run: Run, folder: Path) -> None:
    """All of them, by the names that --only takes, and none says that it was not measured."""
    result = run("study", "show", folder)
    assert result.exit_code == 0
    assert re.findall(r"\[([a-z-]+)\]", result.stdout) == list(OBSERVATIONS)
    assert "Not measured" not in result.stdout
    assert "12.0 us for a load and 1.50 us for a minor fault" in re.sub(r"\s+", " ", result.stdout)


def test_one_observation_can_be_asked_for(run: Run, folder: Path) -> None:
    """It is told alone; a name that is none is refused with those that are."""
    assert re.findall(r"\[([a-z-]+)\]", run("study", "show", folder, "--only", "cliff").stdout) == ["cliff"]
    result = run("study", "show", folder, "--only", "clif")
    assert result.exit_code == 2
    assert "cliff" in result.stderr


def test_numbers_are_there_for_programs(run: Run, folder: Path) -> None:
    """JSON has each observation's numbers and what they come from."""
    found = json.loads(run("study", "show", folder, "--json").stdout)
    assert list(found["observations"]) == list(OBSERVATIONS)
    assert found["observations"]["page-cost"]["fitted_load_us"] == pytest.approx(12, rel=1e-3)
    assert found["cases"] == len(cases())
    assert found["machines"][0]["cpu_model"] == "a processor"


def test_a_page_has_a_section_and_a_command_for_each_observation(run: Run, folder: Path) -> None:
    """What the page says can be printed again; its tables are whole, its pictures are those that are drawn."""
    result = run("study", "show", folder, "--markdown")
    assert result.exit_code == 0
    assert re.findall(r"`sectum study show --only ([a-z-]+)`", result.stdout) == list(OBSERVATIONS)
    assert set(re.findall(r"\(images/study/([a-z-]+)\.png\)", result.stdout)) == PICTURES
    for table in re.findall(r"(?:^\|.*\n)+", result.stdout, re.M):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert run("study", "show", folder, "--markdown", "--json").exit_code == 2


def test_page_in_docs_is_current(run: Run) -> None:
    """Its numbers are those of the stored measurements."""
    root = ROOT
    if not list((root / "data" / "study").glob("*.parquet")):
        pytest.skip("data/study holds no measurements: run 'sectum study run' first")
    printed = run("study", "show", root / "data" / "study", "--markdown").stdout
    assert (root / "docs" / "study.md").read_text(encoding="utf-8") == printed, (
        "run: sectum study show --markdown > docs/study.md"
    )


@pytest.mark.slow
def test_pictures_are_drawn(run: Run, folder: Path, tmp_path: Path) -> None:
    """One PNG each, in a folder that is made for them, the same for the same study."""
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib: install sectum[train]")
    drawn = []
    for name in ("new", "again"):
        found = json.loads(run("study", "show", folder, "--pictures", tmp_path / name, "--json").stdout)
        assert {Path(path).stem for path in found["pictures"]} == PICTURES
        drawn.append({Path(path).name: Path(path).read_bytes() for path in found["pictures"]})
    assert drawn[0] == drawn[1]
    assert all(content.startswith(b"\x89PNG") for content in drawn[0].values())


def test_what_cannot_be_drawn_is_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to draw, nowhere to draw it, or nothing to draw it with: each in a sentence."""
    with StudyWriter(tmp_path / "failed", "here", {}) as writer:
        writer.add(record(cases()[0], error="EnclaveFailed: it died", runs=[]))
        writer.flush()
    assert "nothing to draw" in run("study", "show", tmp_path / "failed", "--pictures", tmp_path / "new").stderr
    some = fill(tmp_path / "some", cases()[:5])
    (tmp_path / "file").touch()
    assert "cannot be made" in run("study", "show", some, "--pictures", tmp_path / "file" / "new").stderr
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run("study", "show", some, "--pictures", tmp_path / "new")
    assert result.exit_code == 2
    assert "scripts/setup train" in result.stderr


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_what_was_not_measured_says_how_to_measure_it(name: str) -> None:
    """Never an empty section, nor an observation without measurements."""
    observation = in_words(name, None)
    assert re.search(r"Not measured here\. `sectum study run[^`]*`", observation.text)
    assert not observation.table
    assert not observation.picture


def test_a_folder_without_a_study_is_told(run: Run, tmp_path: Path) -> None:
    """An empty or missing folder is an error with its own code."""
    for folder, said in ((tmp_path / "nowhere", "there is no folder"), (tmp_path, "holds no shards")):
        result = run("study", "show", folder)
        assert result.exit_code == 32
        assert said in result.stderr


def test_more_threads_than_cpus_are_refused(run: Run, tmp_path: Path) -> None:
    """Two threads that share a CPU would be measured as something that nobody runs."""
    result = run("study", "run", "--folder", tmp_path / "new", "--threads", "2", "--cpu", "0")
    assert result.exit_code == 2
    assert "give more --cpu" in result.stderr
    assert not (tmp_path / "new").exists()
