"""Campaigns' results on disk: rows in Parquet shards that check themselves, and a journal until there is a shard.

A shard's name ends in the first 16 digits of the SHA-256 of its content, which is verified when it is read; it never
changes once it is there. So shards of several machines lie in one folder without getting into each other's way.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator, KeysView, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sectum.errors import DatasetInvalid, UsageError
from sectum.extras import require
from sectum.lab.dataset.journal import Journal, sync_folder

if TYPE_CHECKING:
    import pyarrow as pa

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_NAME_CHARACTERS = 32
_SHARD = re.compile(r"(?P<machine>.+)-(?P<number>\d{4,})-(?P<digest>[0-9a-f]{16})\.parquet")
_DIGEST_CHARACTERS = 16
_MAX_SHARD_BYTES = 256 << 20
_MAX_SHARD_ROWS = 10_000

Record = Mapping[str, Any]
"""A row as plain values."""


@dataclass(frozen=True)
class Form:
    """What the shards of one kind of campaign hold, and how they are read.

    Attributes:
        name: in their metadata; shards of another form are refused.
        schema: makes their columns; one is ``key``, which names a row within a folder.
        rows: what a row is called, in the plural.
        shipped: folder with this project's own shards, in a checkout of its repository.
        shard_rows: that a writer's journal is emptied at.
        known_by: columns that a writer keeps of the rows that are there.
    """

    name: str
    schema: Callable[[], pa.Schema]
    rows: str
    shipped: str
    shard_rows: int
    known_by: tuple[str, ...] = ("key",)

    def shards(self, folder: Path) -> list[Path]:
        """Paths of a folder's shards, in the order of their names.

        Raises:
            DatasetInvalid: there is none.
        """
        paths = sorted(folder.glob("*.parquet"))
        if not paths and (waiting := in_journals(folder)):
            raise DatasetInvalid(
                f"{folder} holds no shards (*.parquet) yet, but {waiting} {self.rows} in a journal: they are put into "
                "a shard when there are many, when the campaign ends, and when it is interrupted by Ctrl-C"
            )
        if not paths:
            found = f"{folder} holds no shards (*.parquet)" if folder.is_dir() else f"there is no folder {folder}"
            raise DatasetInvalid(
                f"{found}. Sectum's own {self.rows} are in {self.shipped} of a checkout of its repository: run the "
                "command there, or give a folder that a campaign collected into"
            )
        return paths

    def read(self, folder: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Rows of a folder's shards, each shard verified first. Rows that are only in a journal are not among them.

        Args:
            folder: of the campaign.
            columns: to read; all if not given. ``runs.list.element.latency`` is the column ``latency`` of the runs.

        Raises:
            UsageError: pyarrow is not installed.
            DatasetInvalid: a shard is damaged or of another form, or there is none.
        """
        for path in self.shards(folder):
            yield from _read_shard(path, self, columns).to_pylist()

    def contexts(self, folder: Path) -> dict[str, dict[str, Any]]:
        """Machine, versions and date of each shard, by its file's name.

        Raises:
            UsageError: pyarrow is not installed.
            DatasetInvalid: a shard is damaged or of another form, or there is none.
        """
        metadata = {path.name: _read_shard(path, self, []).schema.metadata for path in self.shards(folder)}
        return {name: json.loads(of[b"context"]) for name, of in metadata.items()}


def in_journals(folder: Path) -> int:
    """Rows that are measured and in no shard yet; a running campaign may add to them meanwhile."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*.journal"))


def machine_name(text: str) -> str:
    """Make a machine's name of any text: small letters, digits and dashes."""
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower())
    return "-".join(part for part in kept.split("-") if part)[:_NAME_CHARACTERS].strip("-") or "machine"


def parquet() -> Any:
    """The module pyarrow.parquet.

    Raises:
        UsageError: pyarrow is not installed.
    """
    return require("pyarrow.parquet", "measurements are stored as Parquet, which needs pyarrow", "train")


def _read_shard(path: Path, form: Form, columns: Sequence[str] | None) -> pa.Table:
    pq = parquet()
    import pyarrow as pa

    match = _SHARD.fullmatch(path.name)
    if match is None:
        raise DatasetInvalid(f"{path} is not named as a shard is (machine-0000-digest.parquet): move it elsewhere")
    if path.stat().st_size > _MAX_SHARD_BYTES:
        raise DatasetInvalid(f"{path} is larger than any shard: move it elsewhere")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest()[:_DIGEST_CHARACTERS] != match["digest"]:
        raise DatasetInvalid(f"{path} is damaged: its content does not fit its name. Fetch it again, or delete it")
    try:
        with pq.ParquetFile(io.BytesIO(content)) as shard:
            metadata = shard.metadata.metadata or {}
            missing = {column.partition(".")[0] for column in columns or ()} - {*shard.schema_arrow.names}
            if metadata.get(b"format") != form.name.encode() or b"context" not in metadata or missing:
                raise DatasetInvalid(
                    f"{path} is not of format {form.name}: it needs another version of Sectum, or is of another "
                    "kind of campaign"
                )
            if shard.metadata.num_rows > _MAX_SHARD_ROWS:
                raise DatasetInvalid(
                    f"{path} claims {shard.metadata.num_rows:,} {form.rows}, more than any shard holds"
                )
            return shard.read(None if columns is None else list(columns))
    except (pa.ArrowException, OSError) as error:
        raise DatasetInvalid(f"{path} is no Parquet file ({error}): fetch it again, or delete it") from error


class ShardWriter:
    """Adds rows to a folder: each is safe when `add` returns. A context manager.

    Args:
        folder: of the campaign; made if it is not there.
        machine: this machine's name within the folder: small letters, digits, dashes.
        context: kept with each shard.
        form: of the shards.

    Attributes:
        known: rows that the folder holds, those of other machines too, by key; with the columns of `Form.known_by`.
        cut_off_bytes: of a record that was being written when the last process was killed; it is dropped.

    Raises:
        UsageError: the name is not one, or pyarrow is not installed.
        DatasetBusy: another process collects on this machine into this folder.
        DatasetInvalid: a shard or the journal is damaged.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, machine: str, context: Mapping[str, Any], form: Form) -> None:
        if not _NAME.fullmatch(machine):
            raise UsageError(f"'{machine}' is no name for a machine: use up to 32 small letters, digits and dashes")
        parquet()  # before anything is measured
        self.machine = machine
        self._folder = folder
        self._context = dict(context)
        self._form = form
        self.known: dict[str, Record] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(folder / f"{machine}.journal")
        try:
            for left_over in folder.glob(f".{machine}-*.partial"):
                if self._is_own(left_over.name[1:].removesuffix(".partial")):
                    left_over.unlink()
            stored = []
            own: set[str] = set()
            for path in sorted(folder.glob("*.parquet")):
                rows = _read_shard(path, form, form.known_by).to_pylist()
                stored += rows
                if self._is_own(path.name):
                    own.update(row["key"] for row in rows)
            self._journal.drop(own)  # killed between the writing of a shard and the clearing of the journal
            if not self._journal.records:
                self._journal.clear()
            for row in (*stored, *self._journal.records):
                self._note(row)
            self.cut_off_bytes = self._journal.cut_off_bytes
        except BaseException:
            self._journal.close()
            raise

    @property
    def keys(self) -> KeysView[str]:
        """Keys of the rows that the folder holds."""
        return self.known.keys()

    def _note(self, row: Record) -> None:
        self.known[row["key"]] = {name: row[name] for name in self._form.known_by}

    def _is_own(self, name: str) -> bool:
        match = _SHARD.fullmatch(name)
        return match is not None and match["machine"] == self.machine

    def add(self, record: Record) -> None:
        """Store one row.

        Raises:
            UsageError: it is stored already.
            OSError: the disk is full; nothing is lost but this record.
        """
        if record["key"] in self.known:
            raise UsageError(f"{record['key']} is in {self._folder} already")
        self._journal.append(record)
        self._note(record)
        if len(self._journal.records) >= self._form.shard_rows:
            self.flush()

    def flush(self) -> None:
        """Put what the journal holds into a shard.

        Raises:
            OSError: the disk is full; the journal keeps all.
        """
        if not self._journal.records:
            return
        pq = parquet()
        import pyarrow as pa

        metadata = {"format": self._form.name, "kind": "measured", "context": json.dumps(self._context)}
        table = pa.Table.from_pylist(self._journal.records, schema=self._form.schema().with_metadata(metadata))
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", compression_level=15, write_page_checksum=True)
        content = buffer.getvalue()
        digest = hashlib.sha256(content).hexdigest()[:_DIGEST_CHARACTERS]
        own = [path.name for path in self._folder.glob(f"{self.machine}-*.parquet") if self._is_own(path.name)]
        if not any(name.endswith(f"-{digest}.parquet") for name in own):  # or the journal could not be cleared
            self._write(f"{self.machine}-{len(own):04d}-{digest}.parquet", content)
        self._journal.clear()

    def _write(self, name: str, content: bytes) -> None:
        partial = self._folder / f".{name}.partial"
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._folder / name)
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()
