"""The notebooks of examples/ run, and print what is stored in them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from notebooks import NOTEBOOKS, ROOT, code_cells, texts
from sectum.enclave.runners.softepc import SoftEpcRunner
from sectum.errors import EnclaveUnavailable

pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")
pytest.importorskip("optuna", reason="searching needs Optuna: install sectum[search]")


def test_there_are_notebooks() -> None:
    """The folder of examples is where this test looks for it."""
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_prints_what_is_stored_in_it(path: Path, tmp_path: Path) -> None:
    """Every cell of a notebook runs, and prints the words that are stored with it, numbers aside."""
    try:
        SoftEpcRunner().check()
    except EnclaveUnavailable as error:
        pytest.skip(f"no software enclave here: {error}")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "notebooks.py"), "--print", str(path)],
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"SECTUM_HOME": str(tmp_path / "home")},
    )
    assert done.returncode == 0, done.stderr
    stored = texts([cell["outputs"] for cell in code_cells(json.loads(path.read_text(encoding="utf-8")))])
    assert [_words(text) for text in json.loads(done.stdout)] == [_words(text) for text in stored]


def _words(text: str) -> list[str]:
    """Words without numbers and names of random networks: both differ between processors."""
    return sorted(set(re.findall(r"[a-z]{4,}", re.sub(r"\w+_[0-9a-f]{8}", "", text))))
