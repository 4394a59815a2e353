"""The context of a measurement."""

from __future__ import annotations

import json
from pathlib import Path

import sectum
from sectum.measure import context


def test_context_is_complete_and_plain() -> None:
    """The context names processor, kernel, versions and date, and can be written as JSON."""
    found = context.machine_context()
    assert json.loads(json.dumps(found)) == found
    assert found["cpu_model"]
    assert found["cores"] >= 1
    assert found["kernel"].startswith("Linux")
    assert found["versions"]["sectum"] == sectum.__version__
    assert {"python", "onnxruntime", "numpy"} <= set(found["versions"])
    assert found["date"].endswith("+00:00")


def test_commit_is_read_from_the_checkout(tmp_path: Path) -> None:
    """A checkout's commit is found on a branch, packed or detached; elsewhere it is empty."""
    assert context._commit(tmp_path) == ""
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").write_text("# pack-refs\n" + "b" * 40 + " refs/heads/main\n")
    assert context._commit(tmp_path) == "b" * 40
    (git / "refs" / "heads" / "main").write_text("a" * 40 + "\n")
    assert context._commit(tmp_path) == "a" * 40
    (git / "HEAD").write_text("c" * 40 + "\n")
    assert context._commit(tmp_path) == "c" * 40


def test_the_context_says_in_which_confidential_machine_it_was_made(tmp_path: Path) -> None:
    """A number that was measured inside a TDX guest says so."""
    assert context.machine_context(tmp_path)["tee"] == ""
    (tmp_path / "tdx_guest").touch()
    assert context.machine_context(tmp_path)["tee"] == "tdx"
