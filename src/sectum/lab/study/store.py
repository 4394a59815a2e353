"""The study's measurements on disk: one row a case, with all its runs, in the shards of `sectum.lab.dataset.shards`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sectum.lab.dataset.dataset import END_COLUMNS, columns, run_columns
from sectum.lab.dataset.shards import Form, ShardWriter

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "study-1"
SHARD_CASES = 100
_CASE_COLUMNS = {
    "key": "string", "sweep": "string", "policy": "string", "threads": "int32",
    "kind": "string", "order": "string", "distinct": "int32", "steps": "int32", "channels": "int32",
    "resolution": "int32", "batch": "int32", "seed": "int64",
    "graph": "string", "nchwc_block": "int32", "weight_bytes": "int64", "flops": "int64", "working_set_bytes": "int64",
    "model_live_bytes": "int64",
}  # fmt: skip


def schema() -> pa.Schema:
    """Columns of a shard. Times are ratios to the reference kernels, or in nanoseconds where they say so.

    ``key`` names the case; ``sweep``, ``policy`` and ``threads`` are those of `sectum.lab.study.cases.StudyCase`, and
    ``kind`` to ``seed`` make its network: the fields of `sectum.lab.study.networks.Synthetic`. ``graph`` is what
    the runtime executes (`sectum.ort.stored`), ``nchwc_block`` how many floats a block of its layout has. ``runs``,
    with the columns of a dataset's, are the native one, the one in an enclave without a limit, and one for each size
    of EPC. ``profiles`` have the time of each operator of ``graph``, natively and under each EPC size, for the sweep
    ``operators`` only. ``error`` says why there is nothing else.
    """
    import pyarrow as pa

    profile = [*columns({"place": "string", "epc_bytes": "int64"}), pa.field("operator_times", pa.list_(pa.float32()))]
    return pa.schema(
        [
            *columns(_CASE_COLUMNS),
            pa.field("runs", run_columns()),
            pa.field("profiles", pa.list_(pa.struct(profile))),
            *columns(END_COLUMNS),
        ]
    )


FORM = Form(FORMAT, schema, "cases", "data/study")
read, contexts = FORM.read, FORM.contexts


class StudyWriter(ShardWriter):
    """Adds cases to a folder; see `sectum.lab.dataset.shards.ShardWriter` for what it takes and raises."""

    def __init__(self, folder: Path, machine: str, context: Mapping[str, Any]) -> None:
        super().__init__(folder, machine, context, FORM, shard_rows=SHARD_CASES)
