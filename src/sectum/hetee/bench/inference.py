"""Figures 7a and 8a: the confidential service against the plain baseline, cell by cell, both in one run."""

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
from typing import Any, NamedTuple

import numpy as np

from sectum.hetee.bench.baseline import DEADLINE_MS, Baseline
from sectum.hetee.bench.cell import Cell, Latencies
from sectum.hetee.bench.rack import Rack
from sectum.hetee.bench.workload import Mode, Workload, model, workload
from sectum.hetee.client import Session

Told = Callable[[str, float], None]

_WARM_UP = 2  # batches of each size, of which nothing is kept
_ON_THE_WAY = 6  # batches at a time, when throughput is measured: four are prepared while one is computed
_FILLING = 2  # answers at the beginning of a block that come while the pipeline still fills
_BLOCK_S = 0.3  # at least, of answers in one block
_BLOCK_ANSWERS = 6, 40
_PAIRS_A_BLOCK = 6
_LOAD_S = 600.0


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        networks: of the paper.
        batches: images in one.
        mode: what of it is real.
        count: batches of each cell and system whose latency is taken.
        threads: that compute one batch, where a CPU does.
        seed: of images, and of the order of baseline and service.
    """

    networks: tuple[str, ...]
    batches: tuple[int, ...]
    mode: Mode
    count: int = 24
    threads: int = 1
    seed: int = 1


class _Answer(NamedTuple):
    times_ns: dict[str, int]
    encryption_ms: float


class _System:
    """The service or the baseline, as they are measured: in the same way."""

    def __init__(self, send: Callable[[Workload], Future[Any]], read: Callable[[Any], _Answer]) -> None:
        self._send, self._read = send, read

    def latency(self, work: Workload) -> tuple[float, _Answer]:
        """Milliseconds from handing a batch in until its answer is in hand, nothing else on its way."""
        begun_s = time.perf_counter()
        result = self._send(work).result()
        return (time.perf_counter() - begun_s) * 1e3, self._read(result)

    def batches_per_s(self, work: Workload, answers: int) -> float:
        """Answers a second while there is always another batch on its way."""
        ends_s: list[float] = []
        room = threading.Semaphore(_ON_THE_WAY)

        def answered(_: Future[Any]) -> None:
            ends_s.append(time.perf_counter())
            room.release()

        futures = []
        for _ in range(_FILLING + answers):
            room.acquire()
            futures.append(self._send(work))
            futures[-1].add_done_callback(answered)
        for _ in range(_ON_THE_WAY):
            room.acquire()
        for future in futures:
            future.result()
        return answers / (ends_s[-1] - ends_s[_FILLING - 1])


def _service(session: Session) -> _System:
    def send(work: Workload) -> Future[Any]:
        return session.submit(work.inputs, pixels=work.pixels, pace=work.pace, deadline_ms=DEADLINE_MS)

    def read(result: Any) -> _Answer:
        times_ns = result.receipt.times_ns
        return _Answer(times_ns, result.encryption_ms + times_ns["encryption"] / 1e6)

    return _System(send, read)


def _plain(baseline: Baseline) -> _System:
    def send(work: Workload) -> Future[Any]:
        return baseline.submit(work.inputs, pixels=work.pixels, pace=work.pace)

    return _System(send, lambda result: _Answer(result.times_ns.result(), 0.0))


def run(plan: Plan, told: Told) -> Iterator[Cell]:
    """Measure cell after cell.

    Args:
        plan: which.
        told: is told what is being measured, and the share of all that is done.

    Yields:
        Cells, each as soon as it is measured.

    Raises:
        HeteeError: service or baseline failed, or refuse the work.
        UsageError: the service cannot be started.
    """
    cells = len(plan.networks) * len(plan.batches)
    order = np.random.default_rng(plan.seed)
    told("starting the service", 0.0)
    with Rack(plan.mode.kind, threads=plan.threads) as rack:
        for number, network in enumerate(plan.networks):
            done = number * len(plan.batches)
            told(f"{network}: attesting, loading the model", done / cells)
            content = model(network, plan.mode)
            with rack.connect() as session, Baseline(f"{plan.mode.kind}:0", threads=plan.threads) as baseline:
                session.load(content, timeout_s=_LOAD_S)
                baseline.load(content, hashlib.sha256(content).digest())
                del content
                systems = _plain(baseline), _service(session)
                for at, batch in enumerate(plan.batches, done):
                    work = workload(network, batch, plan.mode, plan.seed)
                    tell = partial(_tell, told, f"{network}, batch {batch}", at, cells)
                    latencies, rates = _measure(systems, work, plan.count, order, tell)
                    yield Cell(network, batch, plan.mode.preprocess, plan.mode.compute, latencies, rates)


def _tell(told: Told, name: str, done: int, cells: int, share: float) -> None:
    told(name, (done + share) / cells)


def _measure(
    systems: tuple[_System, _System],
    work: Workload,
    count: int,
    order: np.random.Generator,
    told: Callable[[float], None],
) -> tuple[tuple[Latencies, Latencies], tuple[list[float], list[float]]]:
    """Latencies and batches a second of baseline and service, which take turns in random order."""
    warm = [[system.latency(work)[1] for _ in range(_WARM_UP)] for system in systems]
    compute_s = statistics.median(answer.times_ns["compute"] for answer in warm[0]) / 1e9
    least, most = _BLOCK_ANSWERS
    answers = min(most, max(least, math.ceil(_BLOCK_S / max(compute_s, 1e-4))))
    latencies = Latencies(), Latencies()
    rates: tuple[list[float], list[float]] = [], []
    blocks = max(2, round(count / _PAIRS_A_BLOCK))
    for block in range(blocks):
        for pair in range(count * block // blocks, count * (block + 1) // blocks):
            told(pair / count)
            for which in order.permutation(2):
                total_ms, answer = systems[which].latency(work)
                latencies[which].add(total_ms, answer.times_ns, answer.encryption_ms)
        for which in order.permutation(2):
            rates[which].append(systems[which].batches_per_s(work, answers))
    return latencies, rates
