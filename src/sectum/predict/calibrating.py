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
from sectum.measure.campaign import match
from sectum.measure.context import machine_context
from sectum.predict.calibration import Calibration, PageCosts
from sectum.predict.features import extract
from sectum.predict.operator_model import OperatorModel
from sectum.units import MIB

Progress = Callable[[str, float], None]

# Small members of unlike families: together they hold every group of operators, at a few seconds each.
SPREAD = (
    ("resnet18", 160), ("vgg11", 64), ("mobilenet_v2", 192), ("mobilenet_v3_small", 224), ("squeezenet1_1", 224),
    ("densenet121", 96), ("shufflenet_v2_x1_0", 224), ("googlenet", 128), ("efficientnet_b0", 128), ("alexnet", 224),
)  # fmt: skip
PROFILED_INFERENCES = 9

# AlexNet at a small resolution: 226 MiB of weights and little arithmetic, so that paging is nearly all of its time.
PAGING_NETWORK = ("alexnet", 128)
PAGING_EPCS_MIB = (48, 128, 208)
PAGING_SAMPLES = 5

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
    reference_ms: dict[int, float] = {}
    factors: dict[int, dict[str, float]] = {}
    page_costs: dict[int, PageCosts] = {}
    softepc: Runner | None = SoftEpcRunner()
    try:
        SoftEpcRunner().check()
    except EnclaveUnavailable:
        softepc = None
    for threads in thread_counts:
        logs: dict[str, list[tuple[float, float]]] = defaultdict(list)
        references_ms: list[float] = []
        for name, resolution in SPREAD:
            progress(f"operators of {name}, {threads} threads", done / steps)
            _observe_operators(name, resolution, threads, operators, logs, references_ms)
            done += 1
        reference_ms[threads] = statistics.median(references_ms)
        factors[threads] = {group: group_factor(pairs) for group, pairs in logs.items()}
        if softepc is not None:
            progress(f"cost of a page, {threads} threads", done / steps)
            page_costs[threads] = _page_costs(softepc, threads, reference_ms[threads])
        done += 2
    progress("done", 1.0)
    context = machine_context()
    return Calibration(
        machine=str(context["cpu_model"]),
        nchwc_block=machine_nchwc_block(),
        reference_ms=reference_ms,
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
    total = sum(measured)
    for group, seen, expected in zip(features.groups, measured, predicted, strict=True):
        logs[group].append((math.log(max(seen, 1e-6) / expected), seen / total))


def group_factor(pairs: Iterable[tuple[float, float]]) -> float:
    """Mean of the logarithms weighted by time, drawn towards 1 as if some operators had shown no difference."""
    logs, weights = np.array(list(pairs)).T
    weights = np.sqrt(weights)
    prior = _PRIOR_OPERATORS * float(np.mean(weights))
    low, high = np.quantile(logs, [0.1, 0.9])
    return math.exp(float(np.sum(weights * np.clip(logs, low, high)) / (np.sum(weights) + prior)))


def _page_costs(runner: Runner, threads: int, reference_ms: float) -> PageCosts:
    """Fit time per swapped page and per minor fault to one network under several EPC sizes."""
    name, resolution = PAGING_NETWORK
    job = Job(model=zoo.to_bytes(zoo.build(name, resolution=resolution), batch=1), threads=threads)
    with NativeRunner().start(job) as session:
        session.sample(2)
        native_ms = _latency_ms(session.sample(PAGING_SAMPLES), reference_ms)
    observations = []
    with runner.start(job) as session:
        session.sample(2)
        roomy_ms = _latency_ms(session.sample(PAGING_SAMPLES), reference_ms)
        for mib in PAGING_EPCS_MIB:
            session.set_epc(mib * MIB)
            session.sample(2)
            samples = session.sample(PAGING_SAMPLES)
            observations.append(
                PageObservation(
                    statistics.median(sample.loads for sample in samples),
                    statistics.median(sample.minor_faults for sample in samples),
                    (_latency_ms(samples, reference_ms) - roomy_ms) * 1e3,
                )
            )
    swap_us, minor_us = solve_page_costs(observations)
    return PageCosts(swap_us, minor_us, compute_factor=roomy_ms / native_ms)


def _latency_ms(samples: Iterable[Sample], reference_ms: float) -> float:
    return statistics.median(sample.latency_ns / sample.reference_ns for sample in samples) * reference_ms


def solve_page_costs(observations: list[PageObservation]) -> tuple[float, float]:
    """Least squares of relative error, neither cost negative; a minor fault costs no more than a swap."""
    paged = [o for o in observations if o.loads > 0 and o.extra_us > 0]
    scale = np.array([1 / o.extra_us for o in paged])
    design = np.array([[o.loads, o.minor_faults] for o in paged]) * scale[:, None]
    (swap, minor), *_ = np.linalg.lstsq(design, np.ones(len(paged)), rcond=None)
    if minor < 0 or minor > swap or swap < 0:
        minor = 0.0
        swap = float(np.mean([o.extra_us / o.loads for o in paged]))
    return float(swap), float(minor)
