"""Measures the cases of the study, by the rules of a campaign, and stores them one by one."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from dataclasses import asdict, replace
from typing import Any

from sectum.enclave.runners.runner import Job, Runner
from sectum.errors import UsageError
from sectum.graph.reader import read
from sectum.lab.dataset.engines import LocalEngine, store
from sectum.lab.dataset.runs import MEMORY_CAP_BYTES, Places, enclave_runs, graph_columns, native_run, recording
from sectum.lab.dataset.shards import Record, ShardWriter
from sectum.lab.study.cases import StudyCase, Sweep
from sectum.lab.study.networks import to_bytes
from sectum.measure.operators import match
from sectum.measure.reference import sums_share
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.ort.optimized import OptimizedGraph

PROFILED_INFERENCES = 15
_WARM_UP = 6
_DEADLINE_S = 240.0


def collect(
    writer: ShardWriter, planned: Sequence[StudyCase], engine: LocalEngine, limit: int
) -> Generator[Record, None, None]:
    """Measure cases that the folder does not hold yet, and store them; see `sectum.lab.dataset.engines.store`."""
    missing = [case for case in planned if case.key not in writer.keys]
    return store(engine, itertools.islice(missing, limit), writer)


def measure_case(case: StudyCase, places: Places) -> dict[str, Any]:
    """Measure a case; a failure is a record with its reason.

    Returns:
        A record with the columns of `sectum.lab.study.store.schema`.
    """
    cpu = Cpu.here()
    record: dict[str, Any] = {
        "key": case.key,
        "sweep": case.sweep,
        "policy": case.policy,
        "threads": case.threads,
        **asdict(case.network),
        "nchwc_block": cpu.nchwc_block,
        "profiles": [],
    }
    with recording(record, places):
        content = to_bytes(case.network)
        runtime = optimize(read(content).graph, cpu)
        record |= graph_columns(runtime)
        job = Job(
            model=content,
            threads=case.threads,
            deadline_s=_DEADLINE_S,
            memory_cap_bytes=MEMORY_CAP_BYTES,
            cpus=places.cpus,
        )
        share = sums_share(runtime)
        with places.native.start(job) as session:
            record["runs"].append(native_run(session, share, threads=case.threads))
            digest = session.outputs_digest()
        with places.enclave.start(replace(job, policy=case.policy)) as session:
            enclave_runs(session, share, lambda size: (None, *case.epcs(size)), digest, record, threads=case.threads)
        if case.sweep is Sweep.OPERATORS:
            record["profiles"] = _profiles(case, job, places, runtime, record["working_set_bytes"])
    return record


def _profiles(
    case: StudyCase, job: Job, places: Places, runtime: OptimizedGraph, working_set_bytes: int
) -> list[dict[str, Any]]:
    """Time each operator natively and under each EPC size, each in a process of its own."""
    where: list[tuple[Runner, int | None]] = [(places.native, None)]
    where += [(places.enclave, epc_bytes) for epc_bytes in case.epcs(working_set_bytes)]
    profiles = []
    for runner, epc_bytes in where:
        with runner.start(replace(job, profile=True, policy=case.policy, epc_bytes=epc_bytes)) as session:
            session.sample(_WARM_UP)
            times = match(runtime, session.operator_times(PROFILED_INFERENCES))
        if times is None:
            raise UsageError("the runtime executed other operators than the graph says: this version is not modelled")
        profiles.append({"place": runner.name, "epc_bytes": epc_bytes, "operator_times": times})
    return profiles
