"""What was measured is on disk once, whole, and told from what is damaged."""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dataset_records import failed, record, room_for
from places import ROOT
from sectum.errors import DatasetBusy, DatasetInvalid, UsageError
from sectum.lab.dataset import dataset
from sectum.lab.dataset.dataset import DatasetWriter, contexts, read, schema
from sectum.lab.dataset.journal import Journal
from sectum.lab.dataset.shards import ShardWriter, in_journals, machine_name

pa = pytest.importorskip("pyarrow", reason="shards are Parquet: install sectum[train]")
pq = pytest.importorskip("pyarrow.parquet", reason="shards are Parquet: install sectum[train]")

CONTEXT = {"cpu_model": "a processor", "versions": {"onnxruntime": "1.31.1"}}


def writer(folder: Path, machine: str = "here") -> ShardWriter:
    return DatasetWriter(folder, machine, CONTEXT)


def stored_keys(folder: Path) -> list[str]:
    """Keys of the shards, in order, each as often as it is there."""
    return sorted(row["key"] for row in read(folder))


def fill(folder: Path, *numbers: int, machine: str = "here") -> None:
    with writer(folder, machine) as into:
        for number in numbers:
            into.add(record(number, machine=machine))
        into.flush()


def killed(*_: object, **__: object) -> None:
    """Stand for the end of the process at this point."""
    raise KeyboardInterrupt


def test_a_record_has_the_columns_of_the_schema() -> None:
    """The records that these tests store are of the form that is measured."""
    assert list(record(1)) == schema().names
    assert [field.name for field in schema().field("runs").type.value_type] == list(record(1)["runs"][0])


def test_what_was_added_is_read(tmp_path: Path) -> None:
    """Every column comes back as it was, of failures too."""
    with writer(tmp_path) as into:
        for one in (record(1), failed(2)):
            into.add(one)
        into.flush()
    assert list(read(tmp_path)) == [record(1), failed(2)]
    assert [*contexts(tmp_path).values()] == [CONTEXT]


def test_columns_can_be_chosen(tmp_path: Path) -> None:
    """A summary need not load samples and graphs."""
    fill(tmp_path, 1)
    (row,) = read(tmp_path, ["key", "runs.list.element.loads"])
    assert row == {"key": "alexnet/1/b1", "runs": [{"loads": 0.0}, {"loads": 0.0}, {"loads": 1024.0}]}


def test_a_record_is_safe_when_add_returns(tmp_path: Path) -> None:
    """Without a flush it is in the journal, where the next process finds it and puts it into a shard."""
    with writer(tmp_path) as into:
        into.add(record(1))
    assert in_journals(tmp_path) == 1
    with writer(tmp_path) as again:
        assert again.keys == {"alexnet/1/b1"}
        known = ("key", "structure", "batch", "threads")
        assert again.known["alexnet/1/b1"] == {name: record(1)[name] for name in known}
        again.add(record(2))
        again.flush()
    assert in_journals(tmp_path) == 0
    assert list(read(tmp_path)) == [record(1), record(2)]


def test_a_full_journal_becomes_a_shard(tmp_path: Path) -> None:
    """Shards are of one size, numbered in the order of their writing."""
    with ShardWriter(tmp_path, "here", CONTEXT, replace(dataset.FORM, shard_rows=3)) as into:
        for number in range(8):
            into.add(record(number))
    assert [path.name[:10] for path in dataset.shards(tmp_path)] == ["here-0000-", "here-0001-"]
    assert in_journals(tmp_path) == 2
    assert [row["seed"] for row in read(tmp_path)] == [0, 1, 2, 3, 4, 5]


def test_what_is_stored_is_not_stored_again(tmp_path: Path) -> None:
    """A network that a shard or the journal holds is refused, and nothing is written."""
    fill(tmp_path, 1)
    with writer(tmp_path) as into:
        into.add(record(2))
        for number in (1, 2):
            with pytest.raises(UsageError, match=f"in {tmp_path} already"):
                into.add(record(number))
        into.flush()
    assert stored_keys(tmp_path) == ["alexnet/1/b1", "alexnet/2/b1"]


@pytest.mark.parametrize("measured_on", ["here", "here-node2"])
def test_killed_between_shard_and_journal_nothing_is_there_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured_on: str
) -> None:
    """A shard takes what the journal held, also where a cluster's node has measured it under another name."""
    with monkeypatch.context() as patched, writer(tmp_path) as into:
        patched.setattr(Journal, "clear", killed)
        for number in (1, 2):
            into.add(record(number, machine=measured_on))
        with pytest.raises(KeyboardInterrupt):
            into.flush()
        with pytest.raises(KeyboardInterrupt):
            into.flush()  # as the end of a campaign does when its beginning failed
    assert in_journals(tmp_path) == 2
    with writer(tmp_path) as into:
        assert len(into.keys) == 2
        into.add(record(3))
        into.flush()
    assert stored_keys(tmp_path) == ["alexnet/1/b1", "alexnet/2/b1", "alexnet/3/b1"]


def test_killed_before_the_shard_had_its_name_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a shard is no shard: it is removed, and made again from the journal."""
    with monkeypatch.context() as patched, writer(tmp_path) as into:
        patched.setattr(Path, "replace", killed)
        patched.setattr(Path, "unlink", killed)  # a kill leaves no time to tidy up
        into.add(record(1))
        with pytest.raises(KeyboardInterrupt):
            into.flush()
    assert list(tmp_path.glob(".*.partial"))
    with writer(tmp_path) as into:
        assert not list(tmp_path.glob(".*.partial"))
        into.flush()
    assert list(read(tmp_path)) == [record(1)]


def test_of_a_journal_only_what_a_shard_holds_is_left_out(tmp_path: Path) -> None:
    """Shards of this machine that come from elsewhere never cost what the journal alone has."""
    elsewhere = tmp_path / "elsewhere"
    fill(elsewhere, 1)
    with writer(tmp_path) as into:
        for number in (1, 2):
            into.add(record(number))
    for shard in elsewhere.glob("*.parquet"):
        shard.replace(tmp_path / shard.name)
    with writer(tmp_path) as into:
        into.flush()
    assert stored_keys(tmp_path) == ["alexnet/1/b1", "alexnet/2/b1"]


def test_two_writers_of_one_machine_are_refused(tmp_path: Path) -> None:
    """The second is told, whatever it would have done; the first goes on undisturbed."""
    with writer(tmp_path) as into:
        into.add(record(1))
        with pytest.raises(DatasetBusy):
            writer(tmp_path)
        into.add(record(2))
        into.flush()
    assert len(stored_keys(tmp_path)) == 2


def test_machines_share_a_folder(tmp_path: Path) -> None:
    """Two machines whose names begin alike collect at the same time; none takes away what the other is writing."""
    half = tmp_path / f".here-2-0000-{'0' * 16}.parquet.partial"
    with writer(tmp_path, "here-2") as other:
        half.touch()
        with writer(tmp_path) as into:
            into.add(record(1))
            other.add(record(2, machine="here-2"))
            into.flush()
            other.flush()
        assert half.exists()
    with writer(tmp_path) as into:
        assert len(into.keys) == 2, "what one machine has measured, the other need not"
    assert {path.name.rsplit("-", 2)[0] for path in dataset.shards(tmp_path)} == {"here", "here-2"}
    assert len(stored_keys(tmp_path)) == 2


def test_what_two_machines_measured_at_the_same_time_is_kept_of_both(tmp_path: Path) -> None:
    """Another machine's shard never costs what this machine's journal holds."""
    with writer(tmp_path) as into:
        into.add(record(1))
    fill(tmp_path / "elsewhere", 1, machine="there")
    for path in dataset.shards(tmp_path / "elsewhere"):
        path.replace(tmp_path / path.name)
    with writer(tmp_path) as into:
        into.flush()
    assert sorted(row["machine"] for row in read(tmp_path)) == ["here", "there"]


@pytest.mark.parametrize("n_bytes", [0, 100, 2000])
def test_a_full_disk_costs_no_record_that_was_added(tmp_path: Path, n_bytes: int) -> None:
    """A shard for which there is no room is not there in part; the journal keeps all until there is."""
    with writer(tmp_path) as into:
        for number in range(3):
            into.add(record(number))
        with room_for(n_bytes), pytest.raises(OSError, match="File too large"):
            into.flush()
        assert [path.name for path in tmp_path.iterdir()] == ["here.journal"]
        into.flush()
    assert list(read(tmp_path)) == [record(0), record(1), record(2)]


def test_a_full_disk_while_adding_is_told_and_costs_that_record_only(tmp_path: Path) -> None:
    """The network in hand is lost; it is not among the keys, so that it is measured again."""
    with writer(tmp_path) as into:
        into.add(record(1))
        with room_for(10), pytest.raises(OSError, match="File too large"):
            into.add(record(2))
        assert into.keys == {"alexnet/1/b1"}
        into.add(record(2))
        into.flush()
    assert list(read(tmp_path)) == [record(1), record(2)]


def test_a_record_that_was_cut_off_is_told(tmp_path: Path) -> None:
    """Who starts a campaign again learns that a record was lost."""
    with writer(tmp_path) as into:
        into.add(record(1))
        assert into.cut_off_bytes == 0
    journal = tmp_path / "here.journal"
    journal.write_bytes(journal.read_bytes()[:-1])
    with writer(tmp_path) as into:
        assert into.cut_off_bytes > 1000
        assert into.keys == set()


def shard(folder: Path, content: bytes, name: str = "here-0000-{digest}.parquet") -> Path:
    """Write a file under the name of a shard, with the digest that belongs to its content."""
    path = folder / name.format(digest=hashlib.sha256(content).hexdigest()[:16])
    path.write_bytes(content)
    return path


def parquet(rows: list[dict[str, Any]], metadata: dict[str, str] | None = None, **columns: Any) -> bytes:
    known = {"format": "1", "context": "{}"} if metadata is None else metadata
    table = pa.table(columns) if columns else pa.Table.from_pylist(rows, schema=schema())
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(known), buffer)
    return buffer.getvalue()


BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "not Parquet": (lambda: b"no shard", "no Parquet file"),
    "cut off": (lambda: parquet([record(1)])[:-10], "no Parquet file"),
    "changed inside": (lambda: parquet([record(1)]).replace(b"alexnet/1", b"alexnet/9", 1)[4:], "no Parquet file"),
    "of another format": (lambda: parquet([record(1)], {"format": "2", "context": "{}"}), "another version"),
    "of no format": (lambda: parquet([record(1)], {}), "another version"),
    "without context": (lambda: parquet([record(1)], {"format": "1"}), "another version"),
    "without columns": (lambda: parquet([], number=[1]), "another version"),
    "endless": (
        lambda: parquet([], key=["k"] * 10_001, structure=["s"] * 10_001, batch=[1] * 10_001, threads=[1] * 10_001),
        "10,001",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_shard_is_refused_although_its_digest_fits(tmp_path: Path, kind: str) -> None:
    """A file made by somebody else is refused with a reason, by reader and writer, before it is used."""
    make, why = BROKEN[kind]
    path = shard(tmp_path, make())
    with pytest.raises(DatasetInvalid, match=why) as told:
        list(read(tmp_path, ["key", "structure", "batch"]))
    assert str(path) in str(told.value)
    with pytest.raises(DatasetInvalid, match=why):
        writer(tmp_path)


def test_every_damaged_byte_of_a_shard_is_told(tmp_path: Path) -> None:
    """A shard is what was written, or it is refused."""
    fill(tmp_path, 1)
    (path,) = dataset.shards(tmp_path)
    content = path.read_bytes()
    for place in range(0, len(content), 97):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(DatasetInvalid, match="damaged"):
            list(read(tmp_path))
        with pytest.raises(DatasetInvalid, match="damaged"):
            contexts(tmp_path)
    path.write_bytes(content)
    assert len(list(read(tmp_path))) == 1


def test_a_file_that_is_not_named_as_a_shard_is_refused(tmp_path: Path) -> None:
    """Another Parquet file in the folder is not taken for measurements."""
    shard(tmp_path, parquet([record(1)]), "notes.parquet")
    with pytest.raises(DatasetInvalid, match="not named as a shard"):
        list(read(tmp_path))


def test_a_folder_without_shards_is_told(tmp_path: Path) -> None:
    """A folder that was mistyped is not an empty dataset, nor is one whose networks are in a journal yet."""
    with pytest.raises(DatasetInvalid, match="data/networks of a checkout"):
        list(read(tmp_path / "elsewhere"))
    with writer(tmp_path) as into:
        into.add(record(1))
    with pytest.raises(DatasetInvalid, match="but 1 networks in a journal"):
        list(read(tmp_path))


@pytest.mark.parametrize("name", ["", "A", "-a", "a b", "../a", "a/b", "a_b", "a" * 33, "a\n"])
def test_what_is_no_name_of_a_machine_is_refused(tmp_path: Path, name: str) -> None:
    """A name becomes part of a file's name, so it has no other characters than are safe there."""
    with pytest.raises(UsageError, match="no name for a machine"):
        writer(tmp_path / "new", name)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("AMD EPYC 7B13 64-Core Processor", "amd-epyc-7b13-64-core-processor"),
        ("Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz", "intel-r-xeon-r-platinum-8370c-cp"),
        ("naïve ümläut", "na-ve-ml-ut"),
        ("日本", "machine"),
        ("", "machine"),
    ],
)
def test_a_machine_gets_a_name_that_is_one(tmp_path: Path, text: str, name: str) -> None:
    """Whatever a processor is called, its name can be used."""
    assert machine_name(text) == name
    writer(tmp_path, name).__exit__(None, None, None)


def test_without_pyarrow_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks it is told before a hundred networks are measured, and how to get it."""
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UsageError, match=r"run scripts/setup train, or .venv/bin/pip install '\.\[train\]'"):
        writer(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_shards_say_that_they_were_measured(tmp_path: Path) -> None:
    """A table taken out of its folder still says what its numbers are, and where they come from."""
    fill(tmp_path, 1)
    (path,) = dataset.shards(tmp_path)
    metadata = pq.read_metadata(path).metadata
    assert metadata[b"kind"] == b"measured"
    assert json.loads(metadata[b"context"]) == CONTEXT


def test_the_data_sheet_names_every_column() -> None:
    """Who reads a shard finds each of its columns explained, and none that is not there."""
    sheet = (ROOT / "docs" / "dataset.md").read_text(encoding="utf-8")
    first_cells = [line.split("|")[1] for line in sheet.splitlines() if line.startswith("| `")]
    explained = set(re.findall(r"`(\w+)`", " ".join(first_cells)))
    assert explained == {*schema().names, *(field.name for field in schema().field("runs").type.value_type)}
