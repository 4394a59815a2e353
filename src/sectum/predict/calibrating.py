"""Measuring a machine: the reference kernel, a spread of operators, and what a page of software EPC costs."""

from __future__ import annotations

import math
import os
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from sectum import zoo
from sectum.enclave.native import NativeRunner
from sectum.enclave.runner import Job, Runner, Sample
from sectum.enclave.softepc import SoftEpcRunner
from sectum.errors import EnclaveUnavailable
from sectum.graph.runtime import machine_nchwc_block, runtime_graph
from sectum.measure.context import machine_context
from sectum.measure.operators import match
from sectum.predict.calibration import Calibration, PageCosts
from sectum.predict.features import extract
from sectum.predict.operator_model import OperatorModel, with_overhead
from sectum.units import MIB

Progress = Callable[[str, float], None]

# Small members of unlike families: together they hold every group of operators, at a few seconds each.
SPREAD = (
    ("resnet18", 160), ("vgg11", 64), ("mobilenet_v2", 192), ("mobilenet_v3_small", 224), ("squeezenet1_1", 224),
    ("densenet121", 96), ("shufflenet_v2_x1_0", 224), ("googlenet", 128), ("efficientnet_b0", 128), ("alexnet", 224),
)  # fmt: skip
PROFILED_INFERENCES = 9


@dataclass(frozen=True)
class PagingCase:
    """A network that pages under each of some EPC sizes."""

    network: str
    resolution: int
    batch: int
    epcs_mib: tuple[int, ...]


# AlexNet's fully connected layers stream: nearly all of its faults are loads. GoogLeNet uses its activations again and
# again: a third of its faults are minor ones. Together they tell the two costs apart.
PAGING_CASES = (PagingCase("alexnet", 128, 1, (48, 128, 208)), PagingCase("googlenet", 224, 4, (20, 32, 44)))
PAGING_SAMPLES = 5
SETTLING_INFERENCES = 3

MINOR_FAULT_SHARE = 0.4
"""Cost of a minor fault over that of a swap: the signal and the mapping, of the parts in benchmarks/pager_fault.py."""

ROOMY_SAMPLES = 15

_PRIOR_OPERATORS = 4.0


@dataclass(frozen=True)
class PageObservation:
    """One EPC size: pages loaded and minor faults of an inference, and the time it took beyond a roomy EPC."""

    loads: float
    minor_faults: float
    extra_us: float


def calibrate(progress: Progress, operators: OperatorModel | None = None) -> Calibration:
    """Measure this machine in about two minutes. Nothing else should run meanwhile.

    Args:
        progress: told what is being done, and the share that is done.
        operators: the operator models to correct; those shipped by default.

    Raises:
        EnclaveError: a measurement failed.
    """
    operators = operators or OperatorModel.load()
    thread_counts = [n for n in (1, 2) if n <= len(os.sched_getaffinity(0))]
    steps = len(thread_counts) * (len(SPREAD) + 2)
    done = 0
    references_ms: list[float] = []
    factors: dict[int, dict[str, float]] = {}
    page_costs: dict[int, PageCosts] = {}
    softepc: Runner | None = SoftEpcRunner()
    try:
        SoftEpcRunner().check()
    except EnclaveUnavailable:
        softepc = None
    for threads in thread_counts:
        logs: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for name, resolution in SPREAD:
            progress(f"operators of {name}, {threads} threads", done / steps)
            _observe_operators(name, resolution, threads, operators, logs, references_ms)
            done += 1
        factors[threads] = {group: group_factor(pairs) for group, pairs in logs.items()}
        if softepc is not None:
            progress(f"cost of a page, {threads} threads", done / steps)
            page_costs[threads] = _page_costs(softepc, threads, statistics.median(references_ms))
        done += 2
    progress("done", 1.0)
    context = machine_context()
    return Calibration(
        machine=str(context["cpu_model"]),
        nchwc_block=machine_nchwc_block(),
        reference_ms=statistics.median(references_ms),
        group_factors=factors,
        page_costs=page_costs,
        context=context,
    )


def _observe_operators(
    name: str,
    resolution: int,
    threads: int,
    operators: OperatorModel,
    logs: dict[str, list[tuple[float, float]]],
    references_ms: list[float],
) -> None:
    """Add, for each operator of a network, log(measured / predicted) and its share of the network's time."""
    architecture = zoo.build(name, resolution=resolution)
    runtime = runtime_graph(zoo.to_graph(architecture, 1), nchwc_block=machine_nchwc_block())
    job = Job(model=zoo.to_bytes(architecture, batch=1), threads=threads, profile=True)
    with NativeRunner().start(job) as session:
        references_ms += [sample.reference_ns / 1e6 for sample in session.sample(3)]
        measured = match(runtime, session.operator_times(PROFILED_INFERENCES))
    if measured is None:
        return
    features = extract(runtime, threads=threads)
    predicted = operators.references(features)
    seen = with_overhead(np.array(measured), operators.overhead_references)
    for group, ours, expected in zip(features.groups, seen, predicted, strict=True):
        logs[group].append((math.log(max(ours, 1e-6) / expected), ours / seen.sum()))


def group_factor(pairs: Iterable[tuple[float, float]]) -> float:
    """Mean of the logarithms weighted by time, drawn towards 1 as if some operators had shown no difference."""
    logs, weights = np.array(list(pairs)).T
    prior = _PRIOR_OPERATORS * float(np.mean(weights))
    low, high = np.quantile(logs, [0.1, 0.9])
    return math.exp(float(np.sum(weights * np.clip(logs, low, high)) / (np.sum(weights) + prior)))


def _page_costs(runner: Runner, threads: int, reference_ms: float) -> PageCosts:
    """Fit time per swapped page and per minor fault to two networks under several EPC sizes."""
    observations = []
    for case in PAGING_CASES:
        architecture = zoo.build(case.network, resolution=case.resolution)
        job = Job(model=zoo.to_bytes(architecture, batch=case.batch), threads=threads)
        with runner.start(job) as enclave:
            enclave.sample(SETTLING_INFERENCES)
            roomy_ms = _latency_ms(enclave.sample(ROOMY_SAMPLES), reference_ms)
            for mib in case.epcs_mib:
                enclave.set_epc(mib * MIB)
                enclave.sample(SETTLING_INFERENCES)
                samples = enclave.sample(PAGING_SAMPLES)
                observations.append(
                    PageObservation(
                        statistics.median(sample.loads for sample in samples),
                        statistics.median(sample.minor_faults for sample in samples),
                        (_latency_ms(samples, reference_ms) - roomy_ms) * 1e3,
                    )
                )
    return PageCosts(*solve_page_costs(observations))


def _latency_ms(samples: Iterable[Sample], reference_ms: float) -> float:
    return statistics.median(sample.latency_ns / sample.reference_ns for sample in samples) * reference_ms


def solve_page_costs(observations: list[PageObservation]) -> tuple[float, float]:
    """Cost of a swap and of a minor fault, in microseconds: least squares of relative error.

    The two are too alike in their course over EPC sizes to be told apart on a noisy machine, so their ratio is fixed.
    """
    shares = np.array([(o.loads + MINOR_FAULT_SHARE * o.minor_faults) / max(o.extra_us, 1.0) for o in observations])
    swap_us = float(np.sum(shares) / np.sum(np.square(shares)))
    return swap_us, MINOR_FAULT_SHARE * swap_us
