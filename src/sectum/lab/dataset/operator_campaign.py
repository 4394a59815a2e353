"""Times of operators in many networks, with one thread and with two: training data for the operator models.

A campaign is a plan (a list of networks that its seed decides) and a folder of shards. It may be stopped at any moment
and started again with the same command.

``python -m sectum.lab.dataset.operator_campaign --folder data/operators/my-machine --networks 400``
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sectum import zoo
from sectum.enclave.runners.native import NativeRunner
from sectum.enclave.runners.runner import Job
from sectum.errors import EnclaveError, UsageError
from sectum.graph.ir import Graph, Operator, Tensor, TensorKind
from sectum.lab.dataset import operator_mix
from sectum.lab.dataset.dataset import columns
from sectum.lab.dataset.shards import Form, Record, parquet
from sectum.lab.dataset.timing_campaign import collected, report
from sectum.measure.operators import match
from sectum.measure.reference import References, estimate, sums_share
from sectum.ort.costs import cost
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.ort.optimized import OptimizedGraph

if TYPE_CHECKING:
    import pyarrow as pa

OPERATOR_MIX = "operator_mix"
NAMED = "zoo:"
MIX_SHARE, NAMED_SHARE = 0.2, 0.2
BATCHES = (1, 1, 1, 1, 1, 2, 4, 8, 16)
MAX_GFLOP = 16.0
MAX_WEIGHT_BYTES = 700 << 20
PROFILED_INFERENCES = 7


@dataclass(frozen=True, slots=True)
class OperatorTask:
    """One network to time: its family, the seed that draws it, batch and threads."""

    family: str
    seed: int
    batch: int
    threads: int

    @property
    def key(self) -> str:
        """Names the task within a dataset."""
        return f"{self.family}/{self.seed}/b{self.batch}/t{self.threads}"


def plan(networks: int, seed: int, threads: Sequence[int] = (1, 2), only: str | None = None) -> list[OperatorTask]:
    """The tasks of a campaign: families in turn, each network with every number of threads."""
    rng = random.Random(seed)  # noqa: S311 - a plan, not a secret
    families, named = zoo.families(), zoo.names()
    tasks = []
    for index in range(networks):
        network_seed, batch = rng.randrange(1 << 31), rng.choice(BATCHES)
        kind = rng.random()
        if only is not None:
            family = only
        elif kind < MIX_SHARE:
            family = OPERATOR_MIX
        elif kind < MIX_SHARE + NAMED_SHARE:
            family = NAMED + rng.choice(named)
        else:
            family = families[index % len(families)]
        tasks += [OperatorTask(family, network_seed, batch, n) for n in threads[: 1 + index % len(threads)]]
    return tasks


def build(task: OperatorTask) -> tuple[bytes, Graph]:
    """The network of a task, as a model with static shapes and as a graph."""
    rng = random.Random(task.seed)  # noqa: S311 - a network, not a secret
    network: zoo.Architecture | zoo.Program
    if task.family == OPERATOR_MIX:
        network = zoo.Program(OPERATOR_MIX, OPERATOR_MIX, partial(operator_mix.write, seed=task.seed), task.seed)
    elif task.family.startswith(NAMED):
        name = task.family.removeprefix(NAMED)
        resolution = 299 if name.startswith("inception") else 32 * rng.randint(2, 8)
        network = zoo.network(name, resolution=resolution)
    else:
        network = zoo.sample(task.family, rng)
    return zoo.to_bytes(network, batch=task.batch), zoo.to_graph(network, task.batch)


def describe(op: Operator, graph: OptimizedGraph) -> str:
    """An operator with the shapes, types and kinds of its tensors, as JSON that :func:`restore` reads."""
    tensors = {
        name: [list(graph.tensors[name].shape), graph.tensors[name].dtype, graph.tensors[name].kind]
        for name in (*op.inputs, *op.outputs)
        if name
    }
    short = {name: f"t{index}" for index, name in enumerate(tensors)} | {"": ""}
    attributes = {key: value for key, value in op.attributes.items() if not isinstance(value, bytes)}
    return json.dumps(
        [op.domain, op.type, [short[n] for n in op.inputs], [short[n] for n in op.outputs], attributes,
         {short[name]: entry for name, entry in tensors.items()}],
        separators=(",", ":"), sort_keys=True,
    )  # fmt: skip


def restore(description: str, cpu: Cpu) -> OptimizedGraph:
    """A graph of the one operator that was described, as optimized for a kind of CPU."""
    domain, kind, inputs, outputs, attributes, entries = json.loads(description)
    tensors = {
        name: Tensor(name, tuple(shape), dtype, TensorKind(tensor_kind))
        for name, (shape, dtype, tensor_kind) in entries.items()
    }
    attributes = {k: tuple(v) if isinstance(v, list) else v for k, v in attributes.items()}
    op = Operator("", kind, tuple(inputs), tuple(outputs), attributes, domain)
    activations = tuple(n for n in inputs if n and tensors[n].kind is not TensorKind.WEIGHT)
    return OptimizedGraph("", (op,), tensors, activations, tuple(outputs), 0, cpu, ((),), ("",))


def schema() -> pa.Schema:
    """Columns of a shard: the fields of a task, its operators as `describe` writes them, and their times.

    ``times_references`` and ``total_references`` are normalized latencies; ``error`` says why there are none.
    """
    import pyarrow as pa

    return pa.schema(
        [
            *columns({"key": "string", "family": "string", "seed": "int64", "batch": "int64", "threads": "int64"}),
            pa.field("operators", pa.list_(pa.string())),
            pa.field("times_references", pa.list_(pa.float32())),
            *columns({"total_references": "float64", "reference_ms": "float64", "error": "string"}),
        ]
    )


FORM = Form("operators-1", schema, "networks", "data/operators", 25)


def run(task: OperatorTask) -> dict[str, Any]:
    """Time the operators of one network natively; a failure is a record with its reason."""
    record = {
        "key": task.key, **asdict(task), "operators": [], "times_references": [], "total_references": 0.0,
        "reference_ms": 0.0, "error": "",
    }  # fmt: skip
    content, graph = build(task)
    runtime = optimize(graph, Cpu.here())
    if sum(cost(op, runtime).flops for op in runtime.operators) > MAX_GFLOP * 1e9:
        return record | {"error": f"skipped: over {MAX_GFLOP} GFLOP"}
    if runtime.weight_bytes > MAX_WEIGHT_BYTES:
        return record | {"error": f"skipped: over {MAX_WEIGHT_BYTES} bytes of weights"}
    job = Job(model=content, threads=task.threads, deadline_s=120)
    try:
        with NativeRunner().start(job) as session:
            session.sample(2)
            samples = session.sample(PROFILED_INFERENCES)
        with NativeRunner().start(replace(job, profile=True)) as session:
            times = session.operator_times(PROFILED_INFERENCES)
    except EnclaveError as error:
        return record | {"error": f"{type(error).__name__}: {error}"}
    matched = match(runtime, times)
    if matched is None:
        return record | {"error": "the runtime executed other operators than its model says"}
    share = sums_share(runtime)
    references = References.of(samples)
    over_products = references.mixed_ms(share) / references.products_ms
    return record | {
        "operators": [describe(op, runtime) for op in runtime.operators],
        "times_references": [over_products * time for time in matched],
        "total_references": over_products * estimate(samples, threads=task.threads, share=share).ratio,
        "reference_ms": references.products_ms,
    }


def read(folder: Path) -> Iterator[Record]:
    """Rows of all shards, those included that were stored before shards had digests."""
    for path in sorted(folder.glob("*.parquet")):
        yield from parquet().read_table(path).to_pylist()


def main(arguments: Sequence[str] | None = None) -> int:
    """Collect from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--networks", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help=f"one family, or {OPERATOR_MIX}, or {NAMED}NAME")
    options = parser.parse_args(arguments)
    if options.networks < 1:
        raise UsageError("--networks: give 1 or more")
    tasks = plan(options.networks, options.seed, only=options.only)
    return report(collected(options.folder, tasks, run, FORM), len(tasks), _outcome)


def _outcome(record: Record) -> str:
    return f"{len(record['operators'])} operators, {record['total_references'] * record['reference_ms']:.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
