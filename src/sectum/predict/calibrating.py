"""Measuring a machine: the reference kernel, a spread of operators, and what a page of software EPC costs."""

from __future__ import annotations

import math
import os
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sectum import zoo
from sectum.enclave.runners.native import NativeRunner
from sectum.enclave.runners.runner import Job, Runner, Sample
from sectum.enclave.runners.softepc import SoftEpcRunner
from sectum.errors import EnclaveUnavailable
from sectum.measure.context import machine_context
from sectum.measure.operators import match
from sectum.measure.reference import References, ratio_of_means, sums_share
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.ort.page_trace import PageTrace, page_trace
from sectum.paging.replacement import steady_state
from sectum.predict.calibrated_kinds import calibrated_kinds
from sectum.predict.calibration import Calibration, PageCosts, groups_of
from sectum.predict.features import OperatorFeatures, extract
from sectum.predict.operator_model import OperatorModel
from sectum.units import MIB, PAGE_BYTES

Progress = Callable[[str, float], None]

# Small members of unlike families: with `calibrated_kinds` they hold every group of operators, at a few seconds each.
SPREAD = (
    ("resnet18", 160), ("vgg11", 64), ("mobilenet_v2", 192), ("mobilenet_v3_small", 224), ("squeezenet1_1", 224),
    ("densenet121", 96), ("shufflenet_v2_x1_0", 224), ("googlenet", 128), ("efficientnet_b0", 128), ("alexnet", 224),
    ("convnext_tiny", 128),
)  # fmt: skip
PROFILED_INFERENCES = 9

ROUNDS = 3
"""How often everything is measured, each time after all the rest: other users of a shared machine come and go."""


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
PAGING_SAMPLES = 8
SETTLING_INFERENCES = 3

MINOR_FAULT_SHARE = 0.53
"""Cost of a minor fault over that of a swap, as the regression over data/networks has it."""

ROOMY_SAMPLES = 15

_PRIOR_OPERATORS = 4.0


@dataclass(frozen=True)
class PageObservation:
    """One EPC size: pages loaded and minor faults of an inference, and the time it took beyond a roomy EPC.

    Pages are weighted by what they cost for the kind of operator that touches them, over the mean. The time is over the
    reduction kernel, which the machine slows as it slows paging.
    """

    loads: float
    minor_faults: float
    extra_references: float


def calibrate(progress: Progress) -> Calibration:
    """Measure this machine in three to four minutes. Nothing else should run meanwhile.

    Raises:
        EnclaveError: a measurement failed.
    """
    operators = OperatorModel.load()
    thread_counts = [n for n in (1, 2) if n <= len(os.sched_getaffinity(0))]
    networks: list[zoo.Architecture | zoo.Program] = [
        zoo.network(name, resolution=resolution) for name, resolution in SPREAD
    ]
    networks.append(calibrated_kinds())
    steps = ROUNDS * len(thread_counts) * (len(networks) + len(PAGING_CASES))
    done = 0
    samples: list[Sample] = []
    observed: dict[int, list[list[ObservedNetwork]]] = {
        threads: [[] for _ in range(ROUNDS)] for threads in thread_counts
    }
    paged: dict[int, list[PageObservation]] = {}
    begin_s, begin_others_s = time.monotonic(), _used_by_others_s()
    softepc: Runner | None = SoftEpcRunner()
    try:
        SoftEpcRunner().check()
    except EnclaveUnavailable:
        softepc = None
    for number in range(ROUNDS):
        for threads in thread_counts:
            words = f"{threads} threads, round {number + 1} of {ROUNDS}"
            for each in networks:
                progress(f"operators of {each.name}, {words}", done / steps)
                network, around = _observe_operators(each, threads, operators)
                samples += around
                observed[threads][number] += [network] if network is not None else []
                done += 1
            for case in PAGING_CASES:
                if softepc is None:
                    break
                progress(f"cost of a page, {words}", done / steps)
                paged.setdefault(threads, []).extend(_observe_paging(softepc, case, threads, operators))
                done += 1
    progress("done", 1.0)
    references = References.of(samples)
    others = (_used_by_others_s() - begin_others_s) / (time.monotonic() - begin_s)
    context = machine_context() | {"cpus_used_by_others": round(max(0.0, others), 3)}
    return Calibration(
        machine=str(context["cpu_model"]),
        cpu=Cpu.here(),
        references=references,
        group_factors={threads: median_factors(rounds, references) for threads, rounds in observed.items()},
        variation={threads: variation(rounds) for threads, rounds in observed.items()},
        page_costs={
            threads: PageCosts(*solve_page_costs(seen, references.sums_ms * 1e3)) for threads, seen in paged.items()
        },
        context=context,
    )


def _used_by_others_s() -> float:
    """Seconds that the processors which may be used here have worked so far, without those for this process."""
    cpus = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    ticks = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *counts = line.split()
        if name in cpus:
            user, nice, system, _idle, _waiting, interrupts, softly, stolen, *_ = map(int, counts)
            ticks += user + nice + system + interrupts + softly + stolen
    own = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return ticks / os.sysconf("SC_CLK_TCK") - sum(use.ru_utime + use.ru_stime for use in own)


@dataclass(frozen=True)
class ObservedNetwork:
    """The operators of one network.

    Attributes:
        name: of the network.
        share: `sectum.measure.reference.sums_share` of the network.
        groups: of its operators.
        seen: their times, over the mixture of the references.
        expected: what the operator models say, over the GEMM reference kernel.
    """

    name: str
    share: float
    groups: tuple[str, ...]
    seen: NDArray[np.float64]
    expected: NDArray[np.float64]


def _observe_operators(
    source: zoo.Architecture | zoo.Program, threads: int, operators: OperatorModel
) -> tuple[ObservedNetwork | None, list[Sample]]:
    """Time the operators of a network; None where the runtime executed others."""
    runtime = optimize(zoo.to_graph(source, 1), Cpu.here())
    job = Job(model=zoo.to_bytes(source, batch=1), threads=threads, profile=True)
    with NativeRunner().start(job) as session:
        samples = session.sample(3)
        measured = match(runtime, session.operator_times(PROFILED_INFERENCES))
    if measured is None:
        return None, samples
    features = extract(runtime, threads=threads)
    seen = operators.overheads.unprofiled(np.array(measured))
    expected = operators.normalized_latencies(features)
    return ObservedNetwork(
        source.name, sums_share(runtime), groups_of(features), np.maximum(seen, 1e-6), expected
    ), samples


def group_factors(networks: Iterable[ObservedNetwork], references: References) -> dict[str, float]:
    """Measured over predicted time by group of operators, both over the GEMM reference kernel."""
    logs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for network in networks:
        seen = network.seen * references.mixed_ms(network.share) / references.products_ms
        for group, ours, expected in zip(network.groups, seen, network.expected, strict=True):
            logs[group].append((math.log(ours / expected), ours / seen.sum()))
    return {group: group_factor(pairs) for group, pairs in logs.items()}


def median_factors(rounds: Sequence[Iterable[ObservedNetwork]], references: References) -> dict[str, float]:
    """The median over the rounds of `group_factors`: one round beside a busy neighbour does not move it."""
    found = [group_factors(networks, references) for networks in rounds]
    return {group: statistics.median(factors[group] for factors in found if group in factors) for group in found[0]}


def variation(rounds: Sequence[Iterable[ObservedNetwork]]) -> float:
    """Coefficient of variation of a network's time between rounds, over the references; 0 if there is one round."""
    logs: dict[str, list[float]] = defaultdict(list)
    for networks in rounds:
        for network in networks:
            logs[network.name].append(math.log(network.seen.sum()))
    variances = [statistics.variance(some) for some in logs.values() if len(some) > 1]
    return math.sqrt(statistics.fmean(variances)) if variances else 0.0


def group_factor(pairs: Iterable[tuple[float, float]]) -> float:
    """Mean of the logarithms weighted by time, drawn towards 1 as if some operators had shown no difference."""
    logs, weights = np.array(list(pairs)).T
    prior = _PRIOR_OPERATORS * float(np.mean(weights))
    low, high = np.quantile(logs, [0.1, 0.9])
    return math.exp(float(np.sum(weights * np.clip(logs, low, high)) / (np.sum(weights) + prior)))


def _observe_paging(
    runner: Runner, case: PagingCase, threads: int, operators: OperatorModel
) -> Iterator[PageObservation]:
    """Run a network under several EPC sizes."""
    architecture = zoo.network(case.network, resolution=case.resolution)
    runtime = optimize(zoo.to_graph(architecture, case.batch), Cpu.here())
    trace = page_trace(runtime, threads=threads)
    features = extract(runtime, threads=threads)
    job = Job(model=zoo.to_bytes(architecture, batch=case.batch), threads=threads)
    with runner.start(job) as enclave:
        enclave.sample(SETTLING_INFERENCES)
        roomy = ratio_of_means([(s.latency_ns, s.reference_ns(1)) for s in enclave.sample(ROOMY_SAMPLES)])[0]
        for mib in case.epcs_mib:
            enclave.set_epc(mib * MIB)
            enclave.sample(SETTLING_INFERENCES)
            samples = enclave.sample(PAGING_SAMPLES)
            paged = ratio_of_means([(s.latency_ns, s.reference_ns(1)) for s in samples])[0]
            weight = mean_page_weight(operators, features, trace, mib * MIB // PAGE_BYTES)
            yield PageObservation(
                weight * statistics.median(sample.loads for sample in samples),
                weight * statistics.median(sample.minor_faults for sample in samples),
                paged - roomy,
            )


def mean_page_weight(operators: OperatorModel, features: OperatorFeatures, trace: PageTrace, epc_pages: int) -> float:
    """Cost of a page in an inference over the mean over all kinds of operators; 1 where none is modelled to page."""
    counts = steady_state(trace.touches_under(epc_pages), epc_pages, operators=len(features.kinds))
    loads = counts.loads_by_operator
    if not loads.any():
        return 1.0
    weights = operators.page_weights(features)
    (correction,) = operators.page_corrections([(features, counts)], epc_pages)
    return correction * float(weights @ loads / loads.sum())


def solve_page_costs(observations: Sequence[PageObservation], sums_us: float) -> tuple[float, float]:
    """Cost of a swap and of a minor fault, in microseconds: least squares of relative error.

    The two are too alike in their course over EPC sizes to be told apart on a noisy machine, so their ratio is fixed.

    Args:
        observations: under several EPC sizes.
        sums_us: typical time of the reduction kernel.
    """
    pages = np.array([o.loads + MINOR_FAULT_SHARE * o.minor_faults for o in observations])
    shares = pages / np.maximum([o.extra_references * sums_us for o in observations], 1.0)
    swap_us = float(np.sum(shares) / np.sum(np.square(shares)))
    return swap_us, MINOR_FAULT_SHARE * swap_us
