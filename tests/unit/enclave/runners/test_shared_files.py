"""Files that a session and its process share."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from sectum.enclave.runners.shared_files import SharedFiles


def test_shared_files_have_no_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one process writes the other reads and the other way round, and at no time is there a file with a name."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files = SharedFiles()
    files.new("given").write(b"to the other")
    result = files.new("result")
    assert Path(files.path("given")).read_bytes() == b"to the other"
    with Path(files.path("result")).open("wb") as theirs:
        theirs.write(b"from the other")
    assert result.read() == b"from the other"
    assert list(tmp_path.iterdir()) == []
    given = files.path("given")
    files.close()
    files.close()
    assert not Path(given).exists()


def test_in_a_folder_shared_files_have_names_until_they_are_removed(tmp_path: Path) -> None:
    """A process that sees one folder only finds the files there; a new file takes the place of an earlier one."""
    files = SharedFiles(tmp_path)
    files.new("given").write(b"first and longer")
    files.new("given").write(b"second")
    assert Path(files.path("given")) == tmp_path / "given"
    assert (tmp_path / "given").read_bytes() == b"second"
    files.remove("given")
    files.remove("given")
    assert list(tmp_path.iterdir()) == []
