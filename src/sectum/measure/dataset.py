"""Measured networks on disk: one row a network, with all its runs, in Parquet shards that check themselves.

A shard's name ends in the first 16 digits of the SHA-256 of its content, which is verified when it is read; it never
changes once it is there. So shards of several machines lie in one folder without getting into each other's way.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sectum.errors import DatasetInvalid, UsageError
from sectum.measure.campaign import identity
from sectum.measure.journal import Journal, sync_folder
from sectum.measure.reference import References
from sectum.units import PAGE_BYTES

if TYPE_CHECKING:
    from types import TracebackType

    import pyarrow as pa

FORMAT = 1
SHARD_NETWORKS = 100
SAMPLE_COLUMNS = (
    "latency_ns", "wait_ns", "handler_ns", "loads",
    "products_before_ns", "products_after_ns", "sums_before_ns", "sums_after_ns",
)  # fmt: skip
"""What a run keeps of each sample, as columns ``sample_latency_ns`` and so on."""
BOUNDARY = (0.8, 1.25)
"""Working set over EPC: between these it is not plain to see whether it fits."""
OVERCOMMITTED_SHARE = 0.001
"""Of its working set's pages: an inference that loads more of them, in the steady state, is over-committed."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_NAME_CHARACTERS = 32
_SHARD = re.compile(r"(?P<machine>.+)-(?P<number>\d{4,})-(?P<digest>[0-9a-f]{16})\.parquet")
_DIGEST_CHARACTERS = 16
_MAX_SHARD_BYTES = 256 << 20
_MAX_SHARD_NETWORKS = 10_000

Record = Mapping[str, Any]
"""A network and its runs as plain values; the columns of `schema`."""


def schema() -> pa.Schema:
    """Columns of a shard. Times are in units of the reference kernel's time, or in nanoseconds where they say so.

    A network: ``key`` names it within a dataset; ``family``, ``source`` (``sample`` or a published network's name),
    ``seed``, ``width``, ``resolution``, ``batch``, ``threads`` say how to make it; ``structure`` and ``topology`` are
    digests, of all that decides its cost and of that without its sizes; ``graph`` is what the runtime executes, as
    `sectum.graph.stored` writes it, and ``operator_times`` goes with its operators. ``error`` says why there is
    nothing else. ``machine`` and ``date``: where and when.

    A run: ``place`` (``native`` or ``softepc``), ``epc_bytes`` (null natively), ``latency`` and its relative
    ``uncertainty``, page counts of one inference, memory at its end, and the samples that the latency comes from.
    """
    import pyarrow as pa

    run = pa.struct(
        [
            pa.field("place", pa.string()),
            pa.field("epc_bytes", pa.int64()),
            pa.field("latency", pa.float64()),
            pa.field("uncertainty", pa.float32()),
            pa.field("products_ms", pa.float32()),
            pa.field("sums_ms", pa.float32()),
            pa.field("sums_share", pa.float32()),
            pa.field("stopped_because", pa.string()),
            pa.field("settled", pa.bool_()),
            pa.field("period", pa.int8()),
            pa.field("warm_up", pa.int16()),
            pa.field("loads", pa.float32()),
            pa.field("evictions", pa.float32()),
            pa.field("minor_faults", pa.float32()),
            pa.field("zero_fills", pa.float32()),
            pa.field("live_bytes", pa.int64()),
            pa.field("resident_bytes", pa.int64()),
            pa.field("peak_resident_bytes", pa.int64()),
            pa.field("outputs_equal_native", pa.bool_()),
            *(pa.field(f"sample_{name}", pa.list_(pa.int64())) for name in SAMPLE_COLUMNS),
        ]
    )
    return pa.schema(
        [
            pa.field("key", pa.string()),
            pa.field("family", pa.string()),
            pa.field("source", pa.string()),
            pa.field("seed", pa.int64()),
            pa.field("width", pa.float32()),
            pa.field("resolution", pa.int32()),
            pa.field("batch", pa.int32()),
            pa.field("threads", pa.int32()),
            pa.field("structure", pa.string()),
            pa.field("topology", pa.string()),
            pa.field("graph", pa.string()),
            pa.field("weight_bytes", pa.int64()),
            pa.field("flops", pa.int64()),
            pa.field("working_set_bytes", pa.int64()),
            pa.field("model_live_bytes", pa.int64()),
            pa.field("operator_times", pa.list_(pa.float32())),
            pa.field("runs", pa.list_(run)),
            pa.field("error", pa.string()),
            pa.field("machine", pa.string()),
            pa.field("date", pa.string()),
            pa.field("seconds", pa.float32()),
        ]
    )


def read(folder: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of all shards, each verified first. Rows of a journal that is not in a shard yet are not among them.

    Args:
        folder: of the dataset.
        columns: to read; all if not given. ``runs.list.element.latency`` is the column ``latency`` of the runs.

    Raises:
        UsageError: pyarrow is not installed.
        DatasetInvalid: a shard is damaged or of another format, or there is none.
    """
    for path in shards(folder):
        yield from _read_shard(path, columns).to_pylist()


def shards(folder: Path) -> list[Path]:
    """Paths of the shards, in the order of their names.

    Raises:
        DatasetInvalid: there is none.
    """
    paths = sorted(folder.glob("*.parquet"))
    if not paths and (waiting := in_journals(folder)):
        raise DatasetInvalid(
            f"{folder} holds no shards (*.parquet) yet, but {waiting} networks in a journal: they are put into a shard "
            f"when there are {SHARD_NETWORKS}, when the campaign ends, and when it is interrupted by Ctrl-C"
        )
    if not paths:
        raise DatasetInvalid(f"{folder} holds no shards (*.parquet): give the folder that a campaign collected into")
    return paths


def contexts(folder: Path) -> dict[str, dict[str, Any]]:
    """Machine, versions and date of each shard, by its file's name.

    Raises:
        UsageError: pyarrow is not installed.
        DatasetInvalid: a shard is damaged or of another format, or there is none.
    """
    return {path.name: json.loads(_read_shard(path, []).schema.metadata[b"context"]) for path in shards(folder)}


def in_journals(folder: Path) -> int:
    """Networks that are measured and in no shard yet; a campaign that is running may add to them meanwhile."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*.journal"))


def machine_name(text: str) -> str:
    """Make a machine's name of any text: small letters, digits and dashes."""
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower())
    return "-".join(part for part in kept.split("-") if part)[:_NAME_CHARACTERS].strip("-") or "machine"


def _parquet() -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError("a dataset is stored as Parquet, which needs pyarrow: pip install 'sectum[train]'") from error
    return pq


def _read_shard(path: Path, columns: Sequence[str] | None) -> pa.Table:
    pq = _parquet()
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
            if metadata.get(b"format") != str(FORMAT).encode() or b"context" not in metadata or missing:
                raise DatasetInvalid(f"{path} is not of format {FORMAT}: it needs another version of Sectum")
            if shard.metadata.num_rows > _MAX_SHARD_NETWORKS:
                raise DatasetInvalid(f"{path} claims {shard.metadata.num_rows:,} networks, more than any shard holds")
            return shard.read(None if columns is None else list(columns))
    except (pa.ArrowException, OSError) as error:
        raise DatasetInvalid(f"{path} is no Parquet file ({error}): fetch it again, or delete it") from error


class DatasetWriter:
    """Adds networks to a folder: each is safe when `add` returns. A context manager.

    Args:
        folder: of the dataset; made if it is not there.
        machine: this machine's name within the dataset: small letters, digits, dashes.
        context: kept with each shard.

    Attributes:
        keys: of the networks that the folder holds, those of other machines too.
        identities: of the same; see `sectum.measure.campaign.identity`.
        cut_off_bytes: of a record that was being written when the last process was killed; it is dropped.

    Raises:
        UsageError: the name is not one, or pyarrow is not installed.
        DatasetBusy: another process collects on this machine into this folder.
        DatasetInvalid: a shard or the journal is damaged.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, machine: str, context: Mapping[str, Any]) -> None:
        if not _NAME.fullmatch(machine):
            raise UsageError(f"'{machine}' is no name for a machine: use up to 32 small letters, digits and dashes")
        _parquet()  # before anything is measured
        self.machine = machine
        self._folder = folder
        self._context = dict(context)
        folder.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(folder / f"{machine}.journal")
        try:
            for left_over in folder.glob(f".{machine}-*.partial"):
                if self._is_own(left_over.name[1:].removesuffix(".partial")):
                    left_over.unlink()
            stored = []
            own: set[str] = set()
            for path in sorted(folder.glob("*.parquet")):
                rows = _read_shard(path, ["key", "structure", "batch"]).to_pylist()
                stored += rows
                if self._is_own(path.name):
                    own.update(row["key"] for row in rows)
            self._journal.drop(own)  # killed between the writing of a shard and the clearing of the journal
            if not self._journal.records:
                self._journal.clear()
            self.keys = {row["key"] for row in (*stored, *self._journal.records)}
            self.identities = {identity(row["structure"], row["batch"]) for row in (*stored, *self._journal.records)}
            self.cut_off_bytes = self._journal.cut_off_bytes
        except BaseException:
            self._journal.close()
            raise

    def _is_own(self, name: str) -> bool:
        match = _SHARD.fullmatch(name)
        return match is not None and match["machine"] == self.machine

    def add(self, record: Record) -> None:
        """Store one network.

        Raises:
            UsageError: it is stored already.
            OSError: the disk is full; nothing is lost but this record.
        """
        if record["key"] in self.keys:
            raise UsageError(f"{record['key']} is in the dataset already")
        self._journal.append(record)
        self.keys.add(record["key"])
        self.identities.add(identity(record["structure"], record["batch"]))
        if len(self._journal.records) >= SHARD_NETWORKS:
            self.flush()

    def flush(self) -> None:
        """Put what the journal holds into a shard.

        Raises:
            OSError: the disk is full; the journal keeps all.
        """
        if not self._journal.records:
            return
        pq = _parquet()
        import pyarrow as pa

        metadata = {"format": str(FORMAT), "kind": "measured", "context": json.dumps(self._context)}
        table = pa.Table.from_pylist(self._journal.records, schema=schema().with_metadata(metadata))
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

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()


def is_over_committed(loads: float, working_set_bytes: int) -> bool:
    """Whether an inference that loads so many pages in the steady state is over-committed."""
    return loads * PAGE_BYTES > OVERCOMMITTED_SHARE * working_set_bytes


def run_ms(run: Mapping[str, Any]) -> float:
    """Latency of a run in milliseconds of the machine's speed while it ran."""
    references = References(run["products_ms"], run["sums_ms"])
    return float(run["latency"] * references.mixed_ms(run["sums_share"]))
