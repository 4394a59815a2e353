"""The journal holds what was finished, whatever happens to its process or its disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dataset_records import room_for
from sectum.errors import DatasetBusy, DatasetInvalid
from sectum.lab.dataset.journal import Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "machine.journal"


def record(number: int, n_characters: int = 10) -> dict[str, Any]:
    return {"key": f"network {number}", "text": "x" * n_characters, "list": [number, 0.5, None]}


def fill(path: Path, count: int) -> list[dict[str, Any]]:
    records = [record(number) for number in range(count)]
    with Journal(path) as journal:
        for one in records:
            journal.append(one)
    return records


def kept(path: Path) -> list[dict[str, Any]]:
    with Journal(path) as journal:
        return journal.records


def test_records_come_back_in_their_order(path: Path) -> None:
    """Another process finds what this one appended, and appends after it."""
    records = fill(path, 3)
    with Journal(path) as journal:
        assert journal.records == records
        assert journal.cut_off_bytes == 0
        journal.append(record(3))
    assert kept(path) == [*records, record(3)]


def test_a_line_that_was_cut_off_is_dropped_and_told(path: Path) -> None:
    """A kill in the middle of a record costs that record only; the next one is not glued to its beginning."""
    records = fill(path, 2)
    with path.open("ab") as file:
        file.write(b"0123 {")
    with Journal(path) as journal:
        assert (journal.records, journal.cut_off_bytes) == (records, 6)
        journal.append(record(2))
    assert kept(path) == [*records, record(2)]


def test_a_damaged_line_is_told_with_its_number(path: Path) -> None:
    """A record that a disk has changed is never measured data; which line it is, a person has to know."""
    fill(path, 3)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"network 1", b"network 7"))
    with pytest.raises(DatasetInvalid, match="line 2 is damaged"):
        Journal(path)
    with pytest.raises(DatasetInvalid):
        Journal(path)  # and it has let go of the lock


def test_only_one_process_holds_it(path: Path) -> None:
    """Two campaigns never write into each other's lines; the second is told who is in its way."""
    with Journal(path), pytest.raises(DatasetBusy, match="another process is collecting"):
        Journal(path)
    Journal(path).close()


def test_what_is_dropped_stays_in_the_file_until_it_is_cleared(path: Path) -> None:
    """Records that a shard holds are left out at every start, until the file itself can be emptied."""
    fill(path, 3)
    with Journal(path) as journal:
        journal.drop({"network 0", "network 2"})
        assert journal.records == [record(1)]
    assert len(kept(path)) == 3
    with Journal(path) as journal:
        journal.clear()
        journal.append(record(5))
    assert kept(path) == [record(5)]


def test_not_a_number_is_refused_and_leaves_nothing(path: Path) -> None:
    """What JSON cannot say is no record, and harms none."""
    records = fill(path, 1)
    with Journal(path) as journal:
        with pytest.raises(ValueError, match="JSON"):
            journal.append({"key": "network 9", "value": float("nan")})
        assert journal.records == records
    assert kept(path) == records


@pytest.mark.parametrize("n_bytes", [10, 150, 500, 1000])
def test_a_record_for_which_there_is_no_room_is_not_there_at_all(path: Path, n_bytes: int) -> None:
    """A full disk costs the record in hand; those before it stay, and those after it can be read."""
    line_bytes = 64 + 1 + len(json.dumps(record(0), separators=(",", ":"))) + 1
    fit = n_bytes // line_bytes
    with Journal(path) as journal:
        with room_for(n_bytes):
            for number in range(fit):
                journal.append(record(number))
            with pytest.raises(OSError, match="File too large"):
                journal.append(record(fit))
        assert path.stat().st_size == fit * line_bytes
        journal.append(record(fit))  # somebody has made room
    assert kept(path) == [record(number) for number in range(fit + 1)]


def test_a_record_that_ctrl_c_meets_is_not_there_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the file and among the records, or in neither: else it would stay behind when a shard is made."""

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    records = fill(path, 2)
    with Journal(path) as journal:
        with monkeypatch.context() as patched:
            patched.setattr("sectum.lab.dataset.journal.os.fsync", interrupted)
            with pytest.raises(KeyboardInterrupt):
                journal.append(record(2))
        assert journal.records == records
    assert kept(path) == records
