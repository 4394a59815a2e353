"""Operators timed in real networks, stored in shards: what the operator models are trained on.

A campaign is a plan (a list of networks that its seed decides) and a folder of Parquet shards. It may be stopped at
any moment and started again: a network is either in a shard as a whole or still to be done. A shard is written beside
its name and renamed, so that none is ever half there.

``python -m sectum.lab.dataset.operator_campaign --folder data/operators/my-machine --networks 400``
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sectum import zoo
from sectum.enclave.runners.native import NativeRunner
from sectum.enclave.runners.runner import Job
from sectum.errors import EnclaveError, UsageError
from sectum.graph import read as graph_of
from sectum.graph.ir import Graph, Operator, Tensor, TensorKind
from sectum.lab.dataset.operator_mix import operator_mix
from sectum.measure.context import machine_context
from sectum.measure.operators import match
from sectum.measure.reference import References, estimate, sums_share
from sectum.ort.costs import cost
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.ort.optimized import OptimizedGraph

OPERATOR_MIX = "operator_mix"
NAMED = "zoo:"
MIX_SHARE, NAMED_SHARE = 0.2, 0.2
BATCHES = (1, 1, 1, 1, 1, 2, 4, 8, 16)
MAX_GFLOP = 16.0
MAX_WEIGHT_BYTES = 700 << 20
PROFILED_INFERENCES = 7
SHARD_NETWORKS = 25


@dataclass(frozen=True, slots=True)
class Task:
    """One network to time: its family, the seed that draws it, batch and threads."""

    family: str
    seed: int
    batch: int
    threads: int

    @property
    def key(self) -> str:
        """Names the task within a dataset."""
        return f"{self.family}/{self.seed}/b{self.batch}/t{self.threads}"


def plan(networks: int, seed: int, threads: Sequence[int] = (1, 2), only: str | None = None) -> list[Task]:
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
        tasks += [Task(family, network_seed, batch, n) for n in threads[: 1 + index % len(threads)]]
    return tasks


def build(task: Task) -> tuple[bytes, Graph]:
    """The network of a task, as a model with static shapes and as a graph."""
    rng = random.Random(task.seed)  # noqa: S311 - a network, not a secret
    if task.family == OPERATOR_MIX:
        content = operator_mix(rng, task.batch)
        return content, graph_of(content).graph
    if task.family.startswith(NAMED):
        name = task.family.removeprefix(NAMED)
        resolution = 299 if name.startswith("inception") else 32 * rng.randint(2, 8)
        architecture = zoo.build(name, resolution=resolution)
    else:
        architecture = zoo.sample(task.family, rng)
    return zoo.to_bytes(architecture, batch=task.batch), zoo.to_graph(architecture, task.batch)


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


@dataclass(frozen=True)
class Row:
    """What one task gave: ``error`` says why there are no times."""

    task: Task
    descriptions: tuple[str, ...]
    times_references: tuple[float, ...]
    total_references: float
    reference_ms: float
    error: str


def run(task: Task) -> Row:
    """Time the operators of one network, natively."""

    def failed(reason: str) -> Row:
        return Row(task, (), (), 0.0, 0.0, reason)

    content, graph = build(task)
    runtime = optimize(graph, Cpu.here())
    if sum(cost(op, runtime).flops for op in runtime.operators) > MAX_GFLOP * 1e9:
        return failed(f"skipped: over {MAX_GFLOP} GFLOP")
    if runtime.weight_bytes > MAX_WEIGHT_BYTES:
        return failed(f"skipped: over {MAX_WEIGHT_BYTES} bytes of weights")
    job = Job(model=content, threads=task.threads, deadline_s=120)
    try:
        with NativeRunner().start(job) as session:
            session.sample(2)
            samples = session.sample(PROFILED_INFERENCES)
        with NativeRunner().start(replace(job, profile=True)) as session:
            times = session.operator_times(PROFILED_INFERENCES)
    except EnclaveError as error:
        return failed(f"{type(error).__name__}: {error}")
    matched = match(runtime, times)
    if matched is None:
        return failed("the runtime executed other operators than its model says")
    share = sums_share(runtime)
    references = References.of(samples)
    over_products = references.mixed_ms(share) / references.products_ms
    return Row(
        task,
        tuple(describe(op, runtime) for op in runtime.operators),
        tuple(over_products * time for time in matched),
        over_products * estimate(samples, threads=task.threads, share=share).ratio,
        references.products_ms,
        "",
    )


def collect(folder: Path, tasks: Sequence[Task]) -> Iterator[tuple[int, Row]]:
    """Run the tasks that the folder does not hold yet, storing a shard at a time; yields each with its number."""
    folder.mkdir(parents=True, exist_ok=True)
    done = {row["key"] for row in read(folder)}
    pending: list[Row] = []
    try:
        for index, task in enumerate(tasks):
            if task.key in done:
                continue
            row = run(task)
            pending.append(row)
            yield index, row
            if len(pending) >= SHARD_NETWORKS:
                _write_shard(folder, pending)
                pending = []
    finally:
        if pending:
            _write_shard(folder, pending)


def read(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Rows of all shards, as dictionaries."""
    import pyarrow.parquet as pq

    for path in sorted(folder.glob("operators-*.parquet")):
        yield from pq.read_table(path).to_pylist()


def _write_shard(folder: Path, rows: Sequence[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "key": [row.task.key for row in rows],
            "family": [row.task.family for row in rows],
            "seed": [row.task.seed for row in rows],
            "batch": [row.task.batch for row in rows],
            "threads": [row.task.threads for row in rows],
            "operators": [list(row.descriptions) for row in rows],
            "times_references": pa.array([list(row.times_references) for row in rows], type=pa.list_(pa.float32())),
            "total_references": [row.total_references for row in rows],
            "reference_ms": [row.reference_ms for row in rows],
            "error": [row.error for row in rows],
        }
    ).replace_schema_metadata({"context": json.dumps(machine_context()), "kind": "measured"})
    number = len(list(folder.glob("operators-*.parquet")))
    target = folder / f"operators-{number:04d}.parquet"
    partial = target.with_suffix(".partial")
    pq.write_table(table, partial, compression="zstd")
    partial.replace(target)


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
    try:
        _report(collect(options.folder, tasks), len(tasks))
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)  # noqa: T201
        return 130
    return 0


def _report(rows: Iterator[tuple[int, Row]], total: int) -> None:
    for index, row in rows:
        outcome = row.error or f"{len(row.descriptions)} operators, {row.total_references * row.reference_ms:.1f} ms"
        print(f"{index + 1}/{total} {row.task.key}: {outcome}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
