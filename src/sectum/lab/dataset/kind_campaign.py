"""Times of operators of one kind each, in random sizes: training data for kinds that few families use.

A campaign is a plan that its seed decides, and a folder of shards. It may be stopped at any moment and started again
with the same command.

``python -m sectum.lab.dataset.kind_campaign --folder data/kinds/my-machine --rounds 12``
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sectum import zoo
from sectum.enclave.runners.native import NativeRunner
from sectum.enclave.runners.runner import Job
from sectum.errors import EnclaveError, UsageError
from sectum.graph import read as read_model
from sectum.lab.dataset import operator_kinds
from sectum.lab.dataset.dataset import columns
from sectum.lab.dataset.shards import Form, Record
from sectum.lab.dataset.timing_campaign import collected, report
from sectum.measure.input_ranges import input_ranges
from sectum.measure.operators import match
from sectum.measure.reference import References
from sectum.ort import stored
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize

if TYPE_CHECKING:
    import pyarrow as pa

PROFILED_INFERENCES = 9
_DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True)
class KindTask:
    """One network to time: operators of a kind, the seed that draws their sizes, threads."""

    kind: str
    seed: int
    threads: int

    @property
    def key(self) -> str:
        """Names the task within a dataset."""
        return f"{self.kind}/{self.seed}/t{self.threads}"


def plan(rounds: int, seed: int, threads: Sequence[int] = (1, 2), kinds: Sequence[str] = ()) -> Iterator[KindTask]:
    """Tasks of a campaign: each kind once a round; every third round with every number of threads."""
    for index in range(rounds):
        for kind in operator_kinds.KINDS:
            rng = random.Random(f"{seed}/{index}/{kind}")  # noqa: S311 - a plan, not a secret
            kind_seed = rng.randrange(1 << 31)
            if not kinds or kind in kinds:
                for number in threads if index % 3 == 2 else threads[:1]:
                    yield KindTask(kind, kind_seed, number)


def schema() -> pa.Schema:
    """Columns of a shard: the fields of a task, the optimized graph, and the times of its operators.

    ``graph`` is as `sectum.ort.stored` writes it. ``times_references`` are normalized by the GEMM reference kernel,
    whose time is ``reference_ms``. ``error`` says why there are none.
    """
    import pyarrow as pa

    return pa.schema(
        [
            *columns({"key": "string", "kind": "string", "seed": "int64", "threads": "int64", "graph": "string"}),
            pa.field("times_references", pa.list_(pa.float32())),
            *columns({"reference_ms": "float64", "error": "string"}),
        ]
    )


FORM = Form("kinds-1", schema, "networks", "data/kinds", 50)


def run(task: KindTask) -> Record:
    """Time the operators of one network natively; a failure is a record with its reason."""
    write = partial(operator_kinds.write, kind=task.kind, seed=task.seed)
    content = zoo.to_bytes(zoo.Program(task.key, task.kind, write, task.seed))
    graph = read_model(content).graph
    runtime = optimize(graph, Cpu.here())
    record: dict[str, Any] = {
        "key": task.key, **asdict(task), "graph": stored.dumps(runtime), "times_references": [], "reference_ms": 0.0,
        "error": "",
    }  # fmt: skip
    job = Job(
        model=content,
        threads=task.threads,
        deadline_s=_DEADLINE_S,
        input_ranges=input_ranges(graph),
        profile=True,
    )
    try:
        with NativeRunner().start(job) as session:
            samples = session.sample(2)
            times = session.operator_times(PROFILED_INFERENCES)
    except EnclaveError as error:
        return record | {"error": f"{type(error).__name__}: {error}"}
    matched = match(runtime, times, share=0.0)
    if matched is None:
        return record | {"error": "the runtime executed other operators than the graph says"}
    return record | {"times_references": matched, "reference_ms": References.of(samples).products_ms}


def main(arguments: Sequence[str] | None = None) -> int:
    """Collect from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=12, help="networks of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of the runtime")
    parser.add_argument("--kinds", nargs="+", default=[], choices=tuple(operator_kinds.KINDS), metavar="KIND")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        raise UsageError("--rounds: give 1 or more")
    tasks = list(plan(options.rounds, options.seed, options.threads, options.kinds))
    records = collected(options.folder, tasks, run, FORM)
    return report(records, len(tasks), lambda record: f"{len(record['times_references'])} operators")


if __name__ == "__main__":
    sys.exit(main())
