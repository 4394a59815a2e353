"""The notebooks in examples/ run as they are, and show what they print."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from places import ROOT, SUPPORT

pytest.importorskip("optuna", reason="searching needs Optuna: install sectum[search]")

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def words_of(text: str) -> list[str]:
    """The words of an output without numbers and without names of networks: those differ between CPUs."""
    return sorted(set(re.findall(r"[a-z]{4,}", re.sub(r"\w+_[0-9a-f]{8}", "", text))))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_prints_what_it_shows(path: Path, tmp_path: Path) -> None:
    """All cells of a notebook run in order without an error, and print the words that are stored in it."""
    done = subprocess.run(
        [sys.executable, str(SUPPORT / "notebooks.py"), str(path)],
        cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    shown = "".join(line for cell in cells for output in cell["outputs"] for line in output["text"])
    assert words_of(done.stdout) == words_of(shown), f"run: python tests/support/notebooks.py {path} --store"


def test_there_are_notebooks() -> None:
    """The folder of examples is where this test looks."""
    assert NOTEBOOKS
