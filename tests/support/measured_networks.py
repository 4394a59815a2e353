"""Networks for the evaluation's tests: made up without graphs, or the first stored ones with made-up latencies."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from places import ROOT
from sectum.lab.dataset.dataset import is_over_committed
from sectum.lab.evaluation.prepare import prepare
from sectum.lab.evaluation.running import blind_cases
from sectum.lab.evaluation.truth import truth
from sectum.lab.learners.learner import LatencyLearner
from sectum.lab.learners.measured import COMPUTED, MeasuredNetwork, MeasuredRun, read
from sectum.lab.learners.splits import random_folds
from sectum.measure.reference import References
from sectum.ort.cpu import Cpu
from sectum.units import MIB, PAGE_BYTES

DATASET = ROOT / "data" / "networks"


def made_up_run(epc_bytes: int | None = None, latency_ms: float = 10.0, **changes: Any) -> MeasuredRun:
    """A run that nobody measured; natively if no EPC is given."""
    values = {
        "uncertainty": 0.02, "loads": 0.0, "evictions": 0.0, "minor_faults": 0.0, "settled": True,
        "over_committed": False, **changes,
    }  # fmt: skip
    return MeasuredRun(epc_bytes=epc_bytes, latency_ms=latency_ms, **values)


def made_up(number: int, **changes: Any) -> MeasuredNetwork:
    """A network that nobody measured, without operators; the number decides key, structure and topology."""
    values = {
        "key": f"alexnet/{number}/b1",
        "family": "alexnet",
        "structure": f"s{number}",
        "topology": f"t{number}",
        "batch": 1,
        "threads": 1,
        "machine": "here",
        "date": "2026-01-02T03:04:05+00:00",
        "working_set_bytes": 10 * MIB,
        "operator_ms": None,
        "native": made_up_run(),
        "runs": (made_up_run(20 * MIB, 11.0), made_up_run(5 * MIB, 50.0, over_committed=True, loads=2560.0)),
        "references": References(2.0, 4.0),
        "cpu": Cpu.AVX2,
        "_stored_graph": "[1,17,[],[],[],[]]",
        **changes,
    }
    return MeasuredNetwork(**values)


@cache
def stored_networks(most: int = 63) -> tuple[MeasuredNetwork, ...]:
    """The first stored networks, as they were measured; of the first shard alone, however many there are."""
    first = min(DATASET.glob("*.parquet"))
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(first, Path(folder) / first.name)
        networks = [network for network in read(Path(folder)) if network.operator_ms is not None][:most]
    prepare(networks)
    return tuple(networks)


Law = Callable[[MeasuredNetwork, MeasuredRun], float]


def under(
    law: Law, *, operators: Callable[[MeasuredNetwork], Any] | None = None, pages: Law | None = None, most: int = 63
) -> list[MeasuredNetwork]:
    """The first stored networks with latencies by a law, and page counts as modelled.

    Args:
        law: milliseconds of a run.
        operators: milliseconds of each operator; the roofline's if not given.
        pages: loads of a run; the page model's if not given.
        most: networks.
    """
    return [_lawful(network, law, operators or _roofline_ms, pages or _modelled) for network in stored_networks(most)]


def _roofline_ms(network: MeasuredNetwork) -> Any:
    return network.features.roofline * network.unit_ms


def _modelled(network: MeasuredNetwork, run: MeasuredRun) -> float:
    return network.paging(run.epc_pages).loads


def _lawful(network: MeasuredNetwork, law: Law, operators: Any, pages: Law) -> MeasuredNetwork:
    def changed(run: MeasuredRun) -> MeasuredRun:
        counts = network.paging(run.epc_pages)
        loads = pages(network, run)
        return replace(
            run,
            latency_ms=law(network, run),
            loads=loads,
            evictions=counts.evictions,
            minor_faults=counts.minor_faults,
            over_committed=run.epc_bytes is not None and is_over_committed(loads, network.trace.pages * PAGE_BYTES),
        )

    made = replace(
        network,
        operator_ms=operators(network),
        native=changed(network.native),
        runs=tuple(changed(run) for run in network.runs),
    )
    vars(made).update({name: vars(network)[name] for name in COMPUTED})
    return made


def held_out_errors(learner: LatencyLearner, networks: list[MeasuredNetwork]) -> Any:
    """Relative errors of what the learner predicts of one fold, and the cases' regimes."""
    fold = random_folds(networks)[0]
    cases = truth(networks)
    lines = np.flatnonzero(np.isin(cases.network, fold.test))
    fitted = learner.fit([networks[index] for index in fold.train])
    estimates = fitted.predict(blind_cases(networks, cases, lines))
    predicted = np.array([estimate.latency_ms for estimate in estimates])
    return np.abs(predicted / cases.measured_ms[lines] - 1), cases.regime[lines]
