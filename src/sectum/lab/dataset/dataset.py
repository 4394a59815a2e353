"""Measured networks on disk: one row a network, with all its runs, in the shards of `sectum.lab.dataset.shards`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sectum.lab.dataset import shards as on_disk
from sectum.lab.dataset.campaign import identity
from sectum.lab.dataset.shards import Form, Record, ShardWriter, in_journals, machine_name
from sectum.measure.reference import References
from sectum.units import PAGE_BYTES

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "BOUNDARY",
    "FORMAT",
    "OVERCOMMITTED_SHARE",
    "SAMPLE_COLUMNS",
    "SHARD_NETWORKS",
    "DatasetWriter",
    "Record",
    "contexts",
    "in_journals",
    "is_over_committed",
    "machine_name",
    "read",
    "run_fields",
    "run_ms",
    "schema",
    "shards",
]

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


def run_fields() -> pa.StructType:
    """Columns of a run: one network in one place, under one EPC size.

    ``place`` (``native`` or ``softepc``), ``epc_bytes`` (null natively), ``latency`` and its relative ``uncertainty``,
    page counts of one inference, memory at its end, and the samples that the latency comes from.
    """
    import pyarrow as pa

    return pa.struct(
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


def schema() -> pa.Schema:
    """Columns of a shard. Times are in units of the reference kernel's time, or in nanoseconds where they say so.

    A network: ``key`` names it within a dataset; ``family``, ``source`` (``sample`` or a published network's name),
    ``seed``, ``width``, ``resolution``, ``batch``, ``threads`` say how to make it; ``structure`` and ``topology`` are
    digests, of all that decides its cost and of that without its sizes; ``graph`` is what the runtime executes, as
    `sectum.ort.stored` writes it, and ``operator_times`` goes with its operators. ``error`` says why there is
    nothing else. ``machine`` and ``date``: where and when.

    ``runs`` have the columns of `run_fields`, the native one first.
    """
    import pyarrow as pa

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
            pa.field("runs", pa.list_(run_fields())),
            pa.field("error", pa.string()),
            pa.field("machine", pa.string()),
            pa.field("date", pa.string()),
            pa.field("seconds", pa.float32()),
        ]
    )


FORM = Form(str(FORMAT), schema, "networks", ("key", "structure", "batch"))


def read(folder: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of all shards; see `sectum.lab.dataset.shards.read`."""
    return on_disk.read(folder, FORM, columns)


def shards(folder: Path) -> list[Path]:
    """Paths of the shards; see `sectum.lab.dataset.shards.shards`."""
    return on_disk.shards(folder, FORM)


def contexts(folder: Path) -> dict[str, dict[str, Any]]:
    """Machine, versions and date of each shard; see `sectum.lab.dataset.shards.contexts`."""
    return on_disk.contexts(folder, FORM)


class DatasetWriter(ShardWriter):
    """Adds networks to a folder; see `sectum.lab.dataset.shards.ShardWriter` for what it takes and raises.

    Attributes:
        identities: of the networks that the folder holds; see `sectum.lab.dataset.campaign.identity`.
    """

    def __init__(self, folder: Path, machine: str, context: Mapping[str, Any]) -> None:
        self.identities: set[str] = set()
        super().__init__(folder, machine, context, FORM, shard_rows=SHARD_NETWORKS)

    def _note(self, row: Record) -> None:
        super()._note(row)
        self.identities.add(identity(row["structure"], row["batch"]))


def is_over_committed(loads: float, working_set_bytes: int) -> bool:
    """Whether an inference that loads so many pages in the steady state is over-committed."""
    return loads * PAGE_BYTES > OVERCOMMITTED_SHARE * working_set_bytes


def run_ms(run: Mapping[str, Any]) -> float:
    """Latency of a run in milliseconds of the machine's speed while it ran."""
    references = References(run["products_ms"], run["sums_ms"])
    return float(run["latency"] * references.mixed_ms(run["sums_share"]))
