"""The study's measurements on disk: one row a case, with all its runs, in the shards of `sectum.lab.dataset.shards`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sectum.lab.dataset import shards
from sectum.lab.dataset.dataset import run_fields
from sectum.lab.dataset.shards import Form, ShardWriter

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "study-1"
SHARD_CASES = 100


def schema() -> pa.Schema:
    """Columns of a shard. Times are ratios to the reference kernels, or in nanoseconds where they say so.

    ``key`` names the case; ``sweep``, ``policy`` and ``threads`` are those of `sectum.lab.study.cases.Case`, and
    ``kind`` to ``seed`` make its network: the fields of `sectum.lab.study.networks.Synthetic`. ``graph`` is what
    the runtime executes (`sectum.ort.stored`), ``nchwc_block`` how many floats a block of its layout has. ``runs``,
    with the columns of a dataset's, are the native one, the one in an enclave without a limit, and one for each size
    of EPC. ``profiles`` have the time of each operator of ``graph``, natively and under each size of EPC, for the sweep
    ``operators`` only. ``error`` says why there is nothing else.
    """
    import pyarrow as pa

    profile = pa.struct(
        [
            pa.field("place", pa.string()),
            pa.field("epc_bytes", pa.int64()),
            pa.field("operator_times", pa.list_(pa.float32())),
        ]
    )
    return pa.schema(
        [
            pa.field("key", pa.string()),
            pa.field("sweep", pa.string()),
            pa.field("policy", pa.string()),
            pa.field("threads", pa.int32()),
            pa.field("kind", pa.string()),
            pa.field("order", pa.string()),
            pa.field("distinct", pa.int32()),
            pa.field("steps", pa.int32()),
            pa.field("channels", pa.int32()),
            pa.field("resolution", pa.int32()),
            pa.field("batch", pa.int32()),
            pa.field("seed", pa.int64()),
            pa.field("graph", pa.string()),
            pa.field("nchwc_block", pa.int32()),
            pa.field("weight_bytes", pa.int64()),
            pa.field("flops", pa.int64()),
            pa.field("working_set_bytes", pa.int64()),
            pa.field("model_live_bytes", pa.int64()),
            pa.field("runs", pa.list_(run_fields())),
            pa.field("profiles", pa.list_(profile)),
            pa.field("error", pa.string()),
            pa.field("machine", pa.string()),
            pa.field("date", pa.string()),
            pa.field("seconds", pa.float32()),
        ]
    )


FORM = Form(FORMAT, schema, "cases")


class StudyWriter(ShardWriter):
    """Adds cases to a folder; see `sectum.lab.dataset.shards.ShardWriter` for what it takes and raises."""

    def __init__(self, folder: Path, machine: str, context: Mapping[str, Any]) -> None:
        super().__init__(folder, machine, context, FORM, shard_rows=SHARD_CASES)


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of all shards; see `sectum.lab.dataset.shards.read` for what it raises."""
    return shards.read(folder, FORM)


def contexts(folder: Path) -> dict[str, dict[str, Any]]:
    """Machine, versions and date of each shard; see `sectum.lab.dataset.shards.contexts` for what it raises."""
    return shards.contexts(folder, FORM)
