"""Measures one network of a campaign: natively, its operators, and in enclaves of two sizes."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

from sectum import zoo
from sectum.enclave.runners.runner import MIN_EPC_BYTES, Job, Runner
from sectum.lab.dataset.runs import MEMORY_CAP_BYTES, Places, enclave_runs, graph_columns, native_run, recording
from sectum.lab.dataset.task import DIGEST_CHARACTERS, Task
from sectum.measure.input_ranges import input_ranges
from sectum.measure.operators import match
from sectum.measure.reference import sums_share
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.ort.optimized import OptimizedGraph
from sectum.units import MIB, PAGE_BYTES

PROFILE_S = 0.2
PROFILED_INFERENCES = (9, 41)
"""Least and most inferences of a profile; as many as fit into its time."""
NEAR = 1.25
"""One EPC lies within this factor of the working set."""
WIDE = 5.0
"""The other EPC lies within this factor of it."""
SMALLEST_EPC_BYTES = MIB
SHORT_MS, PROCESSES = 5.0, 3
"""Inferences up to that time are labelled with the mean over so many processes: they differ by 4 to 11 %."""
_DEADLINE_S = 120.0


def measure_network(task: Task, places: Places) -> dict[str, Any]:
    """Measure a network; a failure is a record with its reason.

    Returns:
        A record with the columns of `sectum.lab.dataset.dataset.schema`.
    """
    network = task.network()
    record: dict[str, Any] = {
        "key": task.key,
        "family": task.family,
        "source": task.source,
        "seed": task.seed,
        "width": task.width,
        "resolution": network.resolution if isinstance(network, zoo.Architecture) else 0,
        "batch": task.batch,
        "threads": task.threads,
        "structure": zoo.structure(network)[:DIGEST_CHARACTERS],
        "topology": zoo.topology(network)[:DIGEST_CHARACTERS],
        "operator_times": None,
    }
    with recording(record, places):
        graph = zoo.to_graph(network, task.batch)
        runtime = optimize(graph, Cpu.here())
        record |= graph_columns(runtime)
        job = Job(
            model=zoo.to_bytes(network, batch=task.batch),
            threads=task.threads,
            input_ranges=input_ranges(graph),
            deadline_s=_DEADLINE_S,
            memory_cap_bytes=MEMORY_CAP_BYTES,
            cpus=places.cpus,
        )
        share = sums_share(runtime)
        digest = _measure_natively(job, places.native, runtime, share, record)
        rng = random.Random(replace(task, repeat=0).key)  # noqa: S311 - a repeated network gets the same EPC sizes
        with places.enclave.start(job) as session:
            enclave_runs(
                session,
                share,
                lambda size: sorted(epc_sizes(size, rng), reverse=True),
                digest,
                record,
                threads=task.threads,
            )
    return record


def _measure_natively(job: Job, runner: Runner, runtime: OptimizedGraph, share: float, record: dict[str, Any]) -> str:
    """Add operator times, then the native run with the profiler off again; returns the digest of its outputs.

    A short inference runs in `PROCESSES` processes, each of which places its memory elsewhere.
    """
    with runner.start(replace(job, profile=True)) as session:
        _, second = session.sample(2)
        least, most = PROFILED_INFERENCES
        profiled = max(least, min(most, int(PROFILE_S * 1e9 / second.wall_ns)))
        record["operator_times"] = match(runtime, session.operator_times(profiled))
        if record["operator_times"] is None:
            record["error"] = "the runtime executed other operators than the graph says"
        record["runs"].append(native_run(session, share, threads=job.threads))
        digest = session.outputs_digest()
    if second.wall_ns < SHORT_MS * 1e6:
        for _ in range(PROCESSES - 1):
            with runner.start(job) as session:
                session.sample(2)
                record["runs"].append(native_run(session, share, threads=job.threads))
    return digest


def epc_sizes(working_set_bytes: int, rng: random.Random) -> tuple[int, int]:
    """Draw one size near the working set, so that the boundary is dense, and one from a wide range, in whole pages."""
    near = working_set_bytes * math.exp(rng.uniform(-1, 1) * math.log(NEAR))
    wide = working_set_bytes * math.exp(rng.uniform(-1, 1) * math.log(WIDE))
    sizes = max(MIN_EPC_BYTES, near), max(SMALLEST_EPC_BYTES, wide)
    return int(sizes[0]) // PAGE_BYTES * PAGE_BYTES, int(sizes[1]) // PAGE_BYTES * PAGE_BYTES
