"""Measures the cases of the study, by the rules of a campaign, and stores them one by one."""

from __future__ import annotations

import datetime
import itertools
import time
from collections.abc import Generator, Sequence
from dataclasses import fields, replace
from typing import Any

from sectum.enclave.runners.runner import Job, Runner
from sectum.errors import EnclaveError, UsageError
from sectum.graph.reader import read
from sectum.lab.dataset.engines import LocalEngine
from sectum.lab.dataset.network import (
    ENCLAVE_S,
    NATIVE_S,
    Places,
    measured_working_set_bytes,
    run_record,
    sampled,
)
from sectum.lab.study.cases import Case, Sweep
from sectum.lab.study.networks import Synthetic, to_bytes
from sectum.lab.study.store import StudyWriter
from sectum.measure.operators import match
from sectum.measure.reference import sums_share
from sectum.ort import stored
from sectum.ort.costs import cost
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.ort.optimized import OptimizedGraph

PROFILED_INFERENCES = 15
_WARM_UP = 6
_DEADLINE_S = 240.0
_MEMORY_CAP_BYTES = 6 << 30


def collect(
    writer: StudyWriter, planned: Sequence[Case], engine: LocalEngine, limit: int
) -> Generator[dict[str, Any], None, None]:
    """Measure cases that the folder does not hold yet, and store them; yields each record when it is safe.

    Args:
        writer: of the folder.
        planned: in this order.
        engine: that measures by `measure_case`.
        limit: how many at most.

    Raises:
        EnclaveUnavailable: the software enclave cannot run.
        OSError: the disk is full; what was stored stays.
    """
    missing = [case for case in planned if case.key not in writer.keys]
    try:
        for record in engine.measure(itertools.islice(missing, limit)):
            writer.add(record)
            yield record
    finally:  # Ctrl-C too
        writer.flush()


def measure_case(case: Case, places: Places) -> dict[str, Any]:
    """Measure a case; a failure is a record with its reason.

    Returns:
        A record with the columns of `sectum.lab.study.store.schema`.
    """
    begin_s = time.monotonic()
    content = to_bytes(case.network)
    nchwc_block = Cpu.here().nchwc_block
    runtime = optimize(read(content).graph, Cpu.of_block(nchwc_block))
    record: dict[str, Any] = {
        "key": case.key,
        "sweep": str(case.sweep),
        "policy": case.policy,
        "threads": case.threads,
        **_described(case.network),
        "graph": stored.dumps(runtime),
        "nchwc_block": nchwc_block,
        "weight_bytes": runtime.weight_bytes,
        "flops": sum(cost(op, runtime).flops for op in runtime.operators),
        "working_set_bytes": None,
        "model_live_bytes": None,
        "runs": [],
        "profiles": [],
        "error": "",
        "machine": places.machine,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    job = Job(
        model=content,
        threads=case.threads,
        deadline_s=_DEADLINE_S,
        memory_cap_bytes=_MEMORY_CAP_BYTES,
        cpus=places.cpus,
    )
    try:
        _measure(case, job, places, sums_share(runtime), record)
        if case.sweep is Sweep.OPERATORS:
            record["profiles"] = _profiles(case, job, places, runtime, record["working_set_bytes"])
    except (EnclaveError, UsageError) as error:  # the second where the pager refuses an EPC size
        record["error"] = f"{type(error).__name__}: {error}"
    record["seconds"] = time.monotonic() - begin_s
    return record


def _described(network: Synthetic) -> dict[str, Any]:
    values = {field.name: getattr(network, field.name) for field in fields(network)}
    return values | {"kind": str(network.kind), "order": str(network.order)}


def _measure(case: Case, job: Job, places: Places, share: float, record: dict[str, Any]) -> None:
    """Add the native run, the working set, and the runs in the enclave: without a limit, then the largest EPC first."""
    with places.native.start(job) as session:
        sampling = sampled(session, share, NATIVE_S, threads=case.threads)
        record["runs"].append(run_record(session, sampling, share, None, "native") | {"outputs_equal_native": True})
        digest = session.outputs_digest()
    with places.enclave.start(replace(job, policy=case.policy)) as session:
        session.sample(2)
        working_set_bytes = measured_working_set_bytes(session)
        record["working_set_bytes"] = working_set_bytes
        record["model_live_bytes"] = session.memory().model_live_bytes
        for epc_bytes in (None, *case.epcs(working_set_bytes)):
            session.set_epc(epc_bytes)
            sampling = sampled(session, share, ENCLAVE_S, threads=case.threads)
            run = run_record(session, sampling, share, epc_bytes, "softepc")
            record["runs"].append(run | {"outputs_equal_native": session.outputs_digest() == digest})


def _profiles(
    case: Case, job: Job, places: Places, runtime: OptimizedGraph, working_set_bytes: int
) -> list[dict[str, Any]]:
    """Time each operator natively and under each size of EPC, each in a process of its own."""
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
