"""Whatever becomes of a journal's file, what was whole is there, nothing is there twice, and damage is told."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from drawing import examples
from sectum.errors import DatasetInvalid
from sectum.lab.dataset.journal import Journal

plain = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(plain | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=6)
records = st.lists(st.dictionaries(st.text(max_size=8), values, max_size=4), min_size=1, max_size=4)


def lines_of(entries: list[dict[str, Any]], folder: str) -> list[bytes]:
    """What appending the records writes, line by line."""
    path = Path(folder) / "journal"
    with Journal(path) as journal:
        for entry in entries:
            journal.append(entry)
    return path.read_bytes().splitlines(keepends=True)


def opened(content: bytes, folder: str) -> list[dict[str, Any]] | None:
    """The records of a journal with that content; None if it is refused."""
    path = Path(folder) / "damaged"
    path.write_bytes(content)
    try:
        with Journal(path) as journal:
            first = journal.records
            assert path.read_bytes() == content[: len(content) - journal.cut_off_bytes]
    except DatasetInvalid:
        assert path.read_bytes() == content, "what is refused is left as it is, for a person to look at"
        return None
    return first


def test_cut_off_at_every_byte_every_whole_record_survives() -> None:
    """Wherever writing may have ended: the lines before that byte are there, and nothing else."""
    entries: list[dict[str, Any]] = [{"key": "a", "list": [1, None]}, {}, {"key": "\n\r \u2028"}]
    with tempfile.TemporaryDirectory() as folder:
        lines = lines_of(entries, folder)
        ends = list(itertools.accumulate(map(len, lines)))
        content = b"".join(lines)
        for cut in range(len(content) + 1):
            assert opened(content[:cut], folder) == entries[: sum(end <= cut for end in ends)]


@examples(40)
@given(records, st.data())
def test_cut_off_anywhere_every_whole_record_survives(entries: list[dict[str, Any]], data: st.DataObject) -> None:
    """The same, whatever the records hold."""
    with tempfile.TemporaryDirectory() as folder:
        lines = lines_of(entries, folder)
        ends = list(itertools.accumulate(map(len, lines)))
        cut = data.draw(st.integers(0, ends[-1]))
        assert opened(b"".join(lines)[:cut], folder) == entries[: sum(end <= cut for end in ends)]


@examples(40)
@given(records, st.data())
def test_a_changed_byte_is_never_read_as_a_record(entries: list[dict[str, Any]], data: st.DataObject) -> None:
    """Damage is refused, or it has cut off the last line; no changed record passes for a measured one."""
    with tempfile.TemporaryDirectory() as folder:
        lines = lines_of(entries, folder)
        content = bytearray(b"".join(lines))
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
        found = opened(bytes(content), folder)
        if place == len(content) - 1:
            assert found == entries[:-1]
        else:
            assert found is None


@examples(40)
@given(records, st.data())
def test_lines_that_were_lost_or_written_twice_do_no_harm_to_others(
    entries: list[dict[str, Any]], data: st.DataObject
) -> None:
    """Lines stand for themselves: deleting one, as the error asks for, leaves all others."""
    with tempfile.TemporaryDirectory() as folder:
        lines = lines_of(entries, folder)
        lost = data.draw(st.integers(0, len(lines) - 1))
        assert opened(b"".join(lines[:lost] + lines[lost + 1 :]), folder) == entries[:lost] + entries[lost + 1 :]
