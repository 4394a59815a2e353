"""Measures figures 7 and 8: the confidential service against the plain baseline, cell by cell, in one run."""

from __future__ import annotations

import hashlib
import math
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from sectum.hetee.bench.baseline import DEADLINE_MS, Baseline
from sectum.hetee.bench.cell import Cell, Latencies
from sectum.hetee.bench.local_rack import LocalRack
from sectum.hetee.bench.workload import Mode, Workload, job, model, workload
from sectum.hetee.client import Result, Session
from sectum.hetee.data_plane import messages
from sectum.hetee.training.job import write_job
from sectum.hetee.worker.accelerators.published import Task

Progress = Callable[[str, float], None]

_WARM_UP = 2  # batches of each size that are sent before measuring
_IN_FLIGHT = 6  # batches at a time when throughput is measured: four are prepared while one is computed
_FILLING = 2  # first answers of a block, which come while the pipeline fills and are not counted
_BLOCK_S = 0.3  # shortest duration of a block of answers
_BLOCK_ANSWERS = 6, 40
_PAIRS_A_BLOCK = 6
_LOAD_S = 600.0


@dataclass(frozen=True)
class BenchPlan:
    """What to measure.

    Attributes:
        networks: networks of the paper.
        batches: batch sizes, in images.
        mode: which steps are real and which are paced.
        count: number of batches whose latency is measured, for each cell and system.
        threads: number of threads that compute one batch on a CPU.
        seed: seed of the images, and of the order of baseline and service.
        task: what is done with a batch: inference (figures 7a and 8a), or a step of training (7b and 8b).
    """

    networks: tuple[str, ...]
    batches: tuple[int, ...]
    mode: Mode
    count: int = 24
    threads: int = 1
    seed: int = 1
    task: Task = "inference"


class _Timing(NamedTuple):
    times_ns: dict[str, int]
    encryption_ms: float


class MeasuredSystem:
    """The service or the baseline. Both are measured in the same way."""

    def __init__(self, send: Callable[[Workload], Future[Any]], read: Callable[[Any], _Timing]) -> None:
        self._send, self._read = send, read

    def latency(self, work: Workload) -> tuple[float, _Timing]:
        """Milliseconds from passing a batch in until its result is returned, with no other batch in flight."""
        begun_s = time.perf_counter()
        result = self._send(work).result()
        return (time.perf_counter() - begun_s) * 1e3, self._read(result)

    def batches_per_s(
        self, work: Workload, answers: int, *, in_flight: int = _IN_FLIGHT, filling: int = _FILLING
    ) -> float:
        """Answers a second with so many batches in flight; the first ``filling`` answers are not counted."""
        ends_s: list[float] = []
        room = threading.Semaphore(in_flight)

        def answered(_: Future[Any]) -> None:
            ends_s.append(time.perf_counter())
            room.release()

        futures = []
        for _ in range(filling + answers):
            room.acquire()
            futures.append(self._send(work))
            futures[-1].add_done_callback(answered)
        for _ in range(in_flight):
            room.acquire()
        for future in futures:
            future.result()
        return answers / (ends_s[-1] - ends_s[filling - 1])


def service_system(session: Session) -> MeasuredSystem:
    """The service, measured through a session."""

    def send(work: Workload) -> Future[Any]:
        return session.submit(work.inputs, pixels=work.pixels, pace=work.pace, deadline_ms=DEADLINE_MS)

    return MeasuredSystem(send, _timing)


def _timing(result: Result) -> _Timing:
    times_ns = result.receipt.times_ns
    return _Timing(times_ns, result.encryption_ms + times_ns["encryption"] / 1e6)


def baseline_system(baseline: Baseline) -> MeasuredSystem:
    """The plain baseline."""

    def send(work: Workload) -> Future[Any]:
        return baseline.submit(work.inputs, pixels=work.pixels, pace=work.pace)

    return MeasuredSystem(send, lambda result: _Timing(result.times_ns.result(), 0.0))


def _begin(
    plan: BenchPlan, network: str, session: Session, baseline: Baseline
) -> tuple[MeasuredSystem, MeasuredSystem]:
    """Load a network, or begin to train it, in the baseline and in the service."""
    if plan.task == "inference":
        content = model(network, plan.mode)
        session.load(content, timeout_s=_LOAD_S)
        baseline.load(content, hashlib.sha256(content).digest())
        return baseline_system(baseline), service_system(session)
    described, onnx = job(network, plan.mode)
    training = session.train(described, onnx=onnx, timeout_s=_LOAD_S)
    if onnx is not None:
        baseline.load(onnx, hashlib.sha256(onnx).digest())
    content = write_job(training.job)
    names = [slot.name for slot in baseline.load(content, hashlib.sha256(content).digest(), "training").inputs]
    steps = count(1)

    def send(work: Workload) -> Future[Any]:
        assert work.labels is not None
        return training.submit(work.inputs, work.labels, pixels=work.pixels, pace=work.pace, deadline_ms=DEADLINE_MS)

    def send_plainly(work: Workload) -> Future[Any]:
        given = dict(zip(names, (work.inputs, work.labels), strict=True))
        step = messages.Work(kind="train", step=next(steps))
        return baseline.submit(given, pixels=work.pixels, pace=work.pace, work=step)

    plain = MeasuredSystem(send_plainly, lambda result: _Timing(result.times_ns.result(), 0.0))
    return plain, MeasuredSystem(send, lambda step: _timing(step.result))


def run(plan: BenchPlan, progress: Progress) -> Iterator[Cell]:
    """Measure cell after cell.

    Args:
        plan: what to measure.
        progress: called with what is being measured, and the share of all that is done.

    Yields:
        Each cell as soon as it is measured.

    Raises:
        HeteeError: the service or the baseline failed, or refused the work.
        UsageError: the service cannot be started.
    """
    cells = len(plan.networks) * len(plan.batches)
    order = np.random.default_rng(plan.seed)
    progress("starting the service", 0.0)
    arguments = ["--threads", str(plan.threads), "--spares", "1"]
    trains = plan.task == "training" and plan.mode.real_compute
    with LocalRack(f"{plan.mode.kind}=1", arguments=arguments, training=trains) as rack:
        for number, network in enumerate(plan.networks):
            done = number * len(plan.batches)
            progress(f"{network}: attesting, loading the model", done / cells)
            with (
                rack.connect_and_settle(accelerator=plan.mode.kind) as session,
                Baseline(f"{plan.mode.kind}:0", threads=plan.threads) as baseline,
            ):
                systems = _begin(plan, network, session, baseline)
                for at, batch in enumerate(plan.batches, done):
                    work = workload(network, batch, plan.mode, plan.seed, plan.task)
                    tell = partial(_tell, progress, f"{network}, batch {batch}", at, cells)
                    latencies, rates = _measure(systems, work, plan.count, order, tell)
                    yield Cell(network, batch, plan.mode.preprocess, plan.mode.compute, latencies, rates, plan.task)


def _tell(progress: Progress, name: str, done: int, cells: int, share: float) -> None:
    progress(name, (done + share) / cells)


def _measure(
    systems: tuple[MeasuredSystem, MeasuredSystem],
    work: Workload,
    count: int,
    order: np.random.Generator,
    progress: Callable[[float], None],
) -> tuple[tuple[Latencies, Latencies], tuple[list[float], list[float]]]:
    """Latencies and batches a second of the baseline and the service, which take turns in random order."""
    warm = [[system.latency(work)[1] for _ in range(_WARM_UP)] for system in systems]
    compute_s = statistics.median(answer.times_ns["compute"] for answer in warm[0]) / 1e9
    least, most = _BLOCK_ANSWERS
    answers = min(most, max(least, math.ceil(_BLOCK_S / max(compute_s, 1e-4))))
    latencies = Latencies(), Latencies()
    rates: tuple[list[float], list[float]] = [], []
    blocks = max(2, round(count / _PAIRS_A_BLOCK))
    for block in range(blocks):
        for pair in range(count * block // blocks, count * (block + 1) // blocks):
            progress(pair / count)
            for which in order.permutation(2):
                total_ms, answer = systems[which].latency(work)
                latencies[which].add(total_ms, answer.times_ns, answer.encryption_ms)
        for which in order.permutation(2):
            rates[which].append(systems[which].batches_per_s(work, answers))
    return latencies, rates
