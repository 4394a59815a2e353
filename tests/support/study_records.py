"""Records of cases that nobody measured, whose latencies follow a law that is known exactly."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

from dataset_records import run
from sectum.graph.reader import read
from sectum.lab.study.cases import StudyCase, Sweep
from sectum.lab.study.networks import Kind, Order, Synthetic, to_bytes
from sectum.lab.study.store import StudyWriter
from sectum.ort import stored
from sectum.ort.costs import cost
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.units import MIB, PAGE_BYTES

LOAD_US, MINOR_FAULT_US, REFERENCE_MS = 12.0, 1.5, 2.0
GFLOP_MS = 20.0
"""Time of a thousand million operations."""


def weights(distinct: int, steps: int, order: Order = Order.CYCLE, **changes: Any) -> Synthetic:
    """Make a network of matrices of 1 MiB."""
    sizes = {"channels": 512, "resolution": 2} | changes
    return Synthetic(kind=Kind.WEIGHTS, order=order, distinct=distinct, steps=steps, **sizes)


def maps(distinct: int, steps: int, order: Order = Order.BACK, **changes: Any) -> Synthetic:
    """Make a network of maps of 1 MiB."""
    sizes = {"channels": 64, "resolution": 64} | changes
    return Synthetic(kind=Kind.MAPS, order=order, distinct=distinct, steps=steps, **sizes)


def cases() -> list[StudyCase]:
    """Make a small study with every sweep."""
    near = tuple(size * MIB for size in (2, 3))
    networks = [*(weights(n, n, resolution=r) for n, r in ((3, 1), (3, 4), (3, 16))), maps(3, 1), maps(3, 2)]
    held = [
        StudyCase(sweep=Sweep.COMPUTATION, network=network, working_sets_over_epc=(0.8, 1.25, 2.0))
        for network in networks
    ]
    sixteen = (16 * MIB,)
    return [
        *(StudyCase(sweep=Sweep.MEMORY, network=weights(n, 5), epc_sizes=near) for n in (1, 2, 3, 4, 5)),
        *(
            StudyCase(
                sweep=Sweep.ORDER,
                network=weights(3, 6, order),
                policy=policy,
                working_sets_over_epc=(0.9, 1.02, 1.5, 2.0, 3.0),
            )
            for order in (Order.CYCLE, Order.BACK)
            for policy in ("second-chance", "fifo")
        ),
        *held,
        *(StudyCase(sweep=Sweep.BATCH, network=maps(3, 1, batch=batch), epc_sizes=sixteen) for batch in (1, 2, 4, 8)),
        StudyCase(sweep=Sweep.OPERATORS, network=weights(3, 6, Order.BETWEEN), working_sets_over_epc=(0.8, 1.5)),
        *(
            StudyCase(
                sweep=Sweep.COMPUTATION,
                network=case.network,
                working_sets_over_epc=case.working_sets_over_epc,
                threads=2,
            )
            for case in held
        ),
    ]


def record(case: StudyCase, **changes: Any) -> dict[str, Any]:
    """Make the record of a case: native latency + loads x `LOAD_US` + minor faults x `MINOR_FAULT_US`, exactly.

    An inference loads the whole working set where it exceeds the EPC, else nothing.
    """
    network = case.network
    graph = optimize(read(to_bytes(network)).graph, Cpu.AVX2)
    flops = sum(cost(op, graph).flops for op in graph.operators)
    size = network.distinct * (MIB if network.kind is Kind.WEIGHTS else network.batch * MIB)
    working_set_bytes = math.ceil(size / PAGE_BYTES) * PAGE_BYTES
    native_ms = 0.1 + GFLOP_MS * flops / 1e9 / case.threads
    pages = working_set_bytes // PAGE_BYTES

    def measured(epc_bytes: int | None) -> dict[str, Any]:
        loads = float(pages) if epc_bytes is not None and working_set_bytes > epc_bytes else 0.0
        minor = 0.0 if not loads else float(pages % 700)
        latency_ms = native_ms + (LOAD_US * loads + MINOR_FAULT_US * minor) / 1e3
        return run("softepc", epc_bytes, loads=loads, minor_faults=minor, **_latency(latency_ms))

    described = {field.name: getattr(network, field.name) for field in fields(network)}
    return {
        "key": case.key,
        "sweep": str(case.sweep),
        "policy": case.policy,
        "threads": case.threads,
        **described,
        "kind": str(network.kind),
        "order": str(network.order),
        "graph": stored.dumps(graph),
        "nchwc_block": 8,
        "weight_bytes": graph.weight_bytes,
        "flops": flops,
        "working_set_bytes": working_set_bytes,
        "model_live_bytes": 2 * working_set_bytes,
        "runs": [run(**_latency(native_ms)), measured(None), *map(measured, case.epcs(working_set_bytes))],
        "profiles": _profiles(case, graph, working_set_bytes) if case.sweep is Sweep.OPERATORS else [],
        "error": "",
        "machine": "here",
        "date": "2026-01-02T03:04:05+00:00",
        "seconds": 6.0,
        **changes,
    }


def _latency(latency_ms: float) -> dict[str, float]:
    return {"latency": latency_ms / REFERENCE_MS, "products_ms": REFERENCE_MS, "sums_ms": REFERENCE_MS}


def _profiles(case: StudyCase, graph: Any, working_set_bytes: int) -> list[dict[str, Any]]:
    """Every operator takes 1 ms; where pages are short, those with a matrix of their own pay for it."""
    places = [("native", None), *(("softepc", size) for size in case.epcs(working_set_bytes))]
    convolutions = [index for index, op in enumerate(graph.operators) if op.type == "Conv"]
    profiles = []
    for place, epc_bytes in places:
        times = [1.0] * len(graph.operators)
        if epc_bytes is not None and epc_bytes < working_set_bytes:
            for index in convolutions[::2]:
                times[index] += LOAD_US * MIB / PAGE_BYTES / 1e3
        times = [time / REFERENCE_MS for time in times]
        profiles.append({"place": place, "epc_bytes": epc_bytes, "operator_times": times})
    return profiles


def fill(folder: Path, planned: list[StudyCase] | None = None) -> Path:
    """Store the records of a small study."""
    with StudyWriter(
        folder, "here", {"cpu_model": "a processor", "kernel": "Linux 6.18", "date": "2026-01-02"}
    ) as into:
        for case in cases() if planned is None else planned:
            into.add(record(case))
        into.flush()
    return folder
