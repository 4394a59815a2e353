"""Measures table III: an enclave with several paced accelerators, against the plain baseline with as many.

The enclave of one session has each number of accelerators in turn: it grows and shrinks between the blocks.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from sectum.hetee.bench.baseline import Baseline
from sectum.hetee.bench.context import machine
from sectum.hetee.bench.inference import MeasuredSystem, Progress, baseline_system, service_system
from sectum.hetee.bench.local_rack import LocalRack
from sectum.hetee.bench.overheads import BootstrapEstimate, estimate
from sectum.hetee.bench.published import table_3
from sectum.hetee.bench.workload import Mode, Workload, model, workload
from sectum.hetee.client import Session
from sectum.hetee.worker.accelerators.published import SOURCE

NUMBERS = (1, 2, 4, 8)
BATCHES = (4, 8, 16)
_IN_FLIGHT, _MOST_IN_FLIGHT = 6, 32  # for each accelerator; all that a session may have
_BLOCK_S = 0.4  # shortest duration of a block of answers
_FEWEST_ANSWERS = 6  # of each accelerator in a block
_FILLING = 2  # first answers of each, which come while the pipeline fills and are not counted


@dataclass(frozen=True)
class ScalingPlan:
    """What to measure.

    Attributes:
        networks: networks of the paper.
        batches: batch sizes, in images; the paper has 4, 8 and 16.
        numbers: numbers of accelerators; the paper has 1, 2 and 4.
        rounds: blocks of each number, for the baseline and for the service.
        seed: seed of the images, and of the order.
    """

    networks: tuple[str, ...]
    batches: tuple[int, ...] = BATCHES
    numbers: tuple[int, ...] = NUMBERS
    rounds: int = 6
    seed: int = 1


@dataclass(frozen=True)
class ScalingCell:
    """A network, a batch size, and a number of accelerators. Rates are batches a second, one for each round.

    Attributes:
        network: the paper's name of the network.
        batch: number of images in a batch.
        accelerators: number of accelerators.
        service: rates of the service.
        baseline: rates of the baseline with as many accelerators.
        alone: rates of the service with one accelerator, in the same rounds.
        alone_baseline: rates of the baseline with one.
    """

    network: str
    batch: int
    accelerators: int
    service: list[float]
    baseline: list[float]
    alone: list[float]
    alone_baseline: list[float]

    @property
    def speedup(self) -> BootstrapEstimate:
        """Throughput over that of the service with one accelerator."""
        return estimate((self.service, self.alone), lambda m: m[0] / m[1])

    @property
    def vs_baseline(self) -> BootstrapEstimate:
        """Throughput over that of the baseline with as many accelerators."""
        return estimate((self.service, self.baseline), lambda m: m[0] / m[1])

    @property
    def baseline_speedup(self) -> BootstrapEstimate:
        """Throughput of the baseline over that of the baseline with one accelerator."""
        return estimate((self.baseline, self.alone_baseline), lambda m: m[0] / m[1])

    def published(self) -> dict[str, float | None]:
        """HETEE's numbers of the same kinds; None where the paper has none."""
        theirs, one = (table_3(self.network, self.batch, n) for n in (self.accelerators, 1))
        base = table_3(self.network, self.batch, self.accelerators, "baseline")
        known = theirs is not None and one is not None and base is not None
        return {
            "speedup": round(theirs / one, 4) if known else None,  # type: ignore[operator]
            "vs_baseline": round(theirs / base, 4) if known else None,  # type: ignore[operator]
            "baseline_speedup": base,
        }

    def json(self) -> dict[str, Any]:
        """Numbers with their 95 % intervals, HETEE's, and all samples."""
        found = {name: getattr(self, name) for name in ("speedup", "vs_baseline", "baseline_speedup")}
        return {
            "network": self.network,
            "batch": self.batch,
            "accelerators": self.accelerators,
            "preprocess": "paced",
            "compute": "paced",
            **{name: round(one.value, 4) for name, one in found.items()},
            "interval_95": {name: one.json() for name, one in found.items()},
            "images_per_s": round(statistics.median(self.service) * self.batch, 3),
            "baseline_images_per_s": round(statistics.median(self.baseline) * self.batch, 3),
            "hetee": self.published(),
            "samples": {"batches_per_s": {"baseline": self.baseline, "service": self.service}},
        }


def averages(cells: list[ScalingCell]) -> dict[int, tuple[float, float, float | None, float | None]]:
    """For each number: our speedup and ratio to the baseline, and HETEE's; means over all cells that were measured."""
    found = {}
    for number in sorted({cell.accelerators for cell in cells}):
        mine = [cell for cell in cells if cell.accelerators == number]
        ours = [statistics.mean(getattr(cell, name).value for cell in mine) for name in ("speedup", "vs_baseline")]
        theirs: list[float | None] = []
        for name in ("speedup", "vs_baseline"):
            known = [value for cell in mine if (value := cell.published()[name]) is not None]
            theirs.append(statistics.mean(known) if known else None)
        found[number] = ours[0], ours[1], theirs[0], theirs[1]
    return found


def about(plan: ScalingPlan) -> dict[str, Any]:
    """The machine, and what was measured on it and how."""
    return {
        **machine(),
        "what": "an enclave with several accelerators, against the same worker in plain with as many, in turns",
        "paced_by": SOURCE,
        "hetee": "Zhu et al., IEEE S&P 2020, Table III; over HETEE with one GPU, and over the baseline with as many",
        "rounds": plan.rounds,
        "seed": plan.seed,
        "interval": "95 %, bootstrap over the rounds of this run",
        "evidence": "software: no hardware protects this",
    }


def run(plan: ScalingPlan, progress: Progress) -> Iterator[ScalingCell]:
    """Measure network after network, and batch size after batch size; in each, all numbers take turns.

    Args:
        plan: what to measure.
        progress: called with what is being measured, and the share of all that is done.

    Yields:
        The cells of a network and a batch size, as soon as they are measured.

    Raises:
        HeteeError: the service or the baseline failed, or refused the work.
        UsageError: the service cannot be started.
    """
    numbers = tuple(sorted({1, *plan.numbers}))
    order, groups = np.random.default_rng(plan.seed), len(plan.networks) * len(plan.batches)
    progress("starting the service", 0.0)
    content = model(plan.networks[0], Mode())
    with LocalRack(f"paced={numbers[-1]}", arguments=["--spares", "1"]) as rack, ExitStack() as stack:
        plain = {}
        for number in numbers:
            names = [f"paced:{at}" for at in range(number)]
            baseline = stack.enter_context(Baseline(*names))
            baseline.load(content, hashlib.sha256(content).digest())
            plain[number] = baseline_system(baseline)
        with rack.connect_and_settle(accelerator="paced", count=numbers[-1]) as session:
            session.load(content)
            for group in range(groups):
                network, batch = plan.networks[group // len(plan.batches)], plan.batches[group % len(plan.batches)]
                work = workload(network, batch, Mode(), plan.seed)
                rates: dict[int, tuple[list[float], list[float]]] = {number: ([], []) for number in numbers}
                for part in range(plan.rounds):
                    progress(f"{network}, batch {batch}", (group + part / plan.rounds) / groups)
                    for at in order.permutation(len(numbers)):
                        measured = _block(session, plain[numbers[at]], work, numbers[at], order)
                        for samples, rate in zip(rates[numbers[at]], measured, strict=True):
                            samples.append(rate)
                for number in plan.numbers:
                    (base, service), (alone_base, alone) = rates[number], rates[1]
                    yield ScalingCell(network, batch, number, service, base, alone, alone_base)


def _block(
    session: Session, plain: MeasuredSystem, work: Workload, number: int, order: np.random.Generator
) -> list[float]:
    """Batches a second of the baseline and of the service, with so many accelerators, one after the other."""
    session.resize(number)
    assert work.pace is not None
    answers = number * max(_FEWEST_ANSWERS, math.ceil(_BLOCK_S / (work.pace.compute_us / 1e6)))
    in_flight, systems, rates = min(_IN_FLIGHT * number, _MOST_IN_FLIGHT), (plain, service_system(session)), [0.0, 0.0]
    for which in order.permutation(2):
        rates[which] = systems[which].batches_per_s(work, answers, in_flight=in_flight, filling=_FILLING * number)
    return rates
