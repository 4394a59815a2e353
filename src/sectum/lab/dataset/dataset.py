"""Measured networks on disk: one row a network, with all its runs, in the shards of `sectum.lab.dataset.shards`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sectum.lab.dataset.shards import Form, ShardWriter
from sectum.measure.reference import References
from sectum.units import PAGE_BYTES

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
SAMPLE_COLUMNS = (
    "latency_ns", "wait_ns", "handler_ns", "loads",
    "products_before_ns", "products_after_ns", "sums_before_ns", "sums_after_ns",
)  # fmt: skip
"""What a run keeps of each sample, as columns ``sample_latency_ns`` and so on."""
END_COLUMNS = {"error": "string", "machine": "string", "date": "string", "seconds": "float32"}
"""The last ones of a row: why there are no further runs, where and when it was measured, and for how long."""
BOUNDARY = (0.8, 1.25)
"""Working set over EPC: between these it is not plain to see whether it fits."""
OVERCOMMITTED_SHARE = 0.001
"""Of its working set's pages: an inference that loads more of them, in the steady state, is over-committed."""


_RUN_COLUMNS = {
    "place": "string", "epc_bytes": "int64",
    "latency": "float64", "uncertainty": "float32", "products_ms": "float32", "sums_ms": "float32",
    "sums_share": "float32", "stopped_because": "string", "settled": "bool", "period": "int8", "warm_up": "int16",
    "loads": "float32", "evictions": "float32", "minor_faults": "float32", "zero_fills": "float32",
    "live_bytes": "int64", "resident_bytes": "int64", "peak_resident_bytes": "int64", "outputs_equal_native": "bool",
}  # fmt: skip
_NETWORK_COLUMNS = {
    "key": "string", "family": "string", "source": "string", "seed": "int64", "width": "float32",
    "resolution": "int32", "batch": "int32", "threads": "int32", "structure": "string", "topology": "string",
    "graph": "string", "weight_bytes": "int64", "flops": "int64", "working_set_bytes": "int64",
    "model_live_bytes": "int64",
}  # fmt: skip


def columns(types: Mapping[str, str]) -> list[pa.Field]:
    """Columns with these names, of types that are named as pyarrow names them."""
    import pyarrow as pa

    return [pa.field(name, pa.type_for_alias(alias)) for name, alias in types.items()]


def run_columns() -> pa.DataType:
    """Type of the column ``runs``: one network in one place, under one EPC size.

    ``place`` (``native`` or ``softepc``), ``epc_bytes`` (null natively), ``latency`` and its relative ``uncertainty``,
    page counts of one inference, memory at its end, and the samples that the latency comes from.
    """
    import pyarrow as pa

    samples = [pa.field(f"sample_{name}", pa.list_(pa.int64())) for name in SAMPLE_COLUMNS]
    return pa.list_(pa.struct([*columns(_RUN_COLUMNS), *samples]))


def schema() -> pa.Schema:
    """Columns of a shard. Times are normalized latencies, or in nanoseconds where they say so.

    A network: ``key`` names it within a dataset; ``family``, ``source`` (``sample`` or a published network's name),
    ``seed``, ``width``, ``resolution``, ``batch``, ``threads`` say how to make it; ``structure`` and ``topology`` are
    digests, of all that decides its cost and of that without its sizes; ``graph`` is what the runtime executes, as
    `sectum.ort.stored` writes it, and ``operator_times`` goes with its operators. ``error`` says why there is
    nothing else. ``machine`` and ``date``: where and when.

    ``runs`` have the columns of `run_columns`, the native one first.
    """
    import pyarrow as pa

    return pa.schema(
        [
            *columns(_NETWORK_COLUMNS),
            pa.field("operator_times", pa.list_(pa.float32())),
            pa.field("runs", run_columns()),
            *columns(END_COLUMNS),
        ]
    )


FORM = Form(str(FORMAT), schema, "networks", "data/networks", 100, ("key", "structure", "batch", "threads"))
read, shards, contexts = FORM.read, FORM.shards, FORM.contexts
DatasetWriter = partial(ShardWriter, form=FORM)
"""Adds networks to a folder."""


def is_over_committed(loads: float, working_set_bytes: int) -> bool:
    """Whether an inference that loads so many pages in the steady state is over-committed."""
    return loads * PAGE_BYTES > OVERCOMMITTED_SHARE * working_set_bytes


def run_ms(run: Mapping[str, Any]) -> float:
    """Latency of a run in milliseconds of the machine's speed while it ran."""
    references = References(run["products_ms"], run["sums_ms"])
    return float(run["latency"] * references.mixed_ms(run["sums_share"]))


def with_one_native(runs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The runs of a network, native first: one with the mean latency in place of those in several processes.

    The processes' spread is its uncertainty.
    """
    natives = [run for run in runs if run["place"] == "native"]
    others = [run for run in runs if run["place"] != "native"]
    if len(natives) < 2:
        return [*natives, *others]
    latencies = [run["latency"] for run in natives]
    mean = statistics.fmean(latencies)
    uncertainty = 1.96 * statistics.stdev(latencies) / mean / math.sqrt(len(latencies))
    return [{**natives[0], "latency": mean, "uncertainty": uncertainty}, *others]
