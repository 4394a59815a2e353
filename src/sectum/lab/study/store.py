"""The study's measurements on disk: one row a case, with all its runs, in the shards of `sectum.lab.dataset.shards`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sectum.lab.dataset.dataset import END_COLUMNS, columns, run_columns
from sectum.lab.dataset.shards import Form, ShardWriter

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "study-1"
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


FORM = Form(FORMAT, schema, "cases", "data/study", 100)
read, contexts = FORM.read, FORM.contexts
StudyWriter = partial(ShardWriter, form=FORM)
"""Adds cases to a folder."""
