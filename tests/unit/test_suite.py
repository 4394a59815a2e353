"""Rules that hold for the tests themselves."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from places import ROOT, SUPPORT


def sentenceless(path: Path) -> list[str]:
    """The tests of a file without a docstring."""
    module = ast.parse(path.read_text(encoding="utf-8")).body
    nodes = [*module, *(inner for n in module if isinstance(n, ast.ClassDef) for inner in n.body)]
    tests = [n for n in nodes if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]
    return [f"{path.relative_to(ROOT)}::{test.name}" for test in tests if not ast.get_docstring(test)]


def test_every_test_says_which_truth_it_protects() -> None:
    """Every test of the suite, in a class or not, has a docstring."""
    assert [test for path in sorted(ROOT.glob("tests/**/test_*.py")) for test in sentenceless(path)] == []


SKIPS = """
import pytest
def test_listed(): pytest.skip("no Chromium here; install it")
def test_unlisted(): pytest.skip("no userfaultfd")
@pytest.mark.skip(reason="no userfaultfd")
def test_unlisted_mark(): pass
@pytest.mark.xfail
def test_expected(): assert False
def test_extra(): pytest.skip("shards are Parquet: install sectum[train]")
"""
MODULE = "import pytest\npytest.skip('no userfaultfd', allow_module_level=True)\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        (["-n", "2"], "2 failed, 1 skipped, 1 xfailed, 2 errors in "),
        (["-n", "0", "--without-extras"], "1 failed, 2 skipped, 1 xfailed, 2 errors in "),
    ],
    ids=["two workers", "one process, without extras"],
)
def test_a_skip_that_is_not_on_the_list_fails_the_run(tmp_path: Path, options: list[str], outcome: str) -> None:
    """A test or module skipped for a reason that the list lacks is a failure, also in pytest's worker processes."""
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {SUPPORT}\n")
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))
    (tmp_path / "test_skips.py").write_text(SKIPS)
    (tmp_path / "test_module.py").write_text(MODULE)
    command = [sys.executable, "-m", "pytest", "--continue-on-collection-errors", *options, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert outcome in done.stdout.splitlines()[-1], done.stdout
    assert done.returncode == 1
    assert done.stdout.count("This reason is not in tests/allowed_skips.toml") >= 3
