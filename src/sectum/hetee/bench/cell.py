"""One cell of the figures: the measurements of one network at one batch size."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sectum.hetee.bench.overheads import BootstrapEstimate, LatencyBreakdown, estimate, throughput_overhead_pct
from sectum.hetee.bench.published import Published, published
from sectum.hetee.bench.workload import PacedOrReal
from sectum.hetee.worker.accelerators.published import Task


@dataclass(frozen=True)
class Latencies:
    """Samples of one system, in milliseconds, in the order in which they were taken.

    Attributes:
        total: time that the client waited.
        preprocess: time of preprocessing, from the worker's receipt.
        compute: time on the accelerator, from the worker's receipt.
        encryption: time of sealing and opening, in client and worker together.
    """

    total: list[float] = field(default_factory=list)
    preprocess: list[float] = field(default_factory=list)
    compute: list[float] = field(default_factory=list)
    encryption: list[float] = field(default_factory=list)

    def add(self, total_ms: float, times_ns: dict[str, int], encryption_ms: float) -> None:
        """Add the sample of one batch."""
        self.total.append(total_ms)
        self.preprocess.append(times_ns["preprocess"] / 1e6)
        self.compute.append(times_ns["compute"] / 1e6)
        self.encryption.append(encryption_ms)

    @property
    def worked(self) -> list[float]:
        """Time of preprocessing and computing of each batch."""
        return [a + b for a, b in zip(self.preprocess, self.compute, strict=True)]

    @property
    def added(self) -> list[float]:
        """The rest of each batch's latency."""
        return [a - b for a, b in zip(self.total, self.worked, strict=True)]

    @property
    def breakdown(self) -> LatencyBreakdown:
        """The breakdown of the median latency."""
        preprocess_ms, compute_ms, encryption_ms, added_ms = map(
            statistics.median, (self.preprocess, self.compute, self.encryption, self.added)
        )
        return LatencyBreakdown.of(preprocess_ms + compute_ms + added_ms, preprocess_ms, compute_ms, encryption_ms)

    def json(self) -> dict[str, list[float]]:
        """All samples, in milliseconds."""
        return {name: [round(ms, 4) for ms in samples] for name, samples in vars(self).items()}


@dataclass(frozen=True)
class Cell:
    """The measurements of one cell. In each pair the baseline comes first, then the service.

    Attributes:
        network: the paper's name of the network.
        batch: number of images in a batch.
        preprocess: whether preprocessing was paced or real.
        compute: whether computing was paced or real.
        latencies: latencies with one batch in flight.
        rates: batches a second with several in flight, one number for each block of batches.
        task: what is done with a batch.
    """

    network: str
    batch: int
    preprocess: PacedOrReal
    compute: PacedOrReal
    latencies: tuple[Latencies, Latencies]
    rates: tuple[list[float], list[float]]
    task: Task = "inference"

    @property
    def published(self) -> Published:
        """HETEE's numbers."""
        return published(self.network, self.batch, self.task)

    @property
    def breakdown(self) -> LatencyBreakdown:
        """The breakdown of the service's latency."""
        return self.latencies[1].breakdown

    @cached_property
    def throughput_overhead_pct(self) -> BootstrapEstimate:
        """Baseline / service - 1."""
        return estimate(self.rates, lambda m: throughput_overhead_pct(m[0], m[1]))

    @cached_property
    def latency_overhead_pct(self) -> BootstrapEstimate:
        """(Encryption + transfer) / (preprocess + compute) of the service."""
        service = self.latencies[1]
        samples = (service.added, service.preprocess, service.compute)
        return estimate(samples, lambda m: 100 * m[0] / (m[1] + m[2]))

    @cached_property
    def added_ms_per_image(self) -> BootstrapEstimate:
        """(Encryption + transfer) / images of the service."""
        return estimate((self.latencies[1].added,), lambda m: m[0] / self.batch)

    @cached_property
    def over_baseline_pct(self) -> BootstrapEstimate:
        """How much longer the client waits for the service than for the baseline, by the client's clock alone."""
        baseline, service = self.latencies
        ratios = [b / a for a, b in zip(baseline.total, service.total, strict=True)]
        return estimate((ratios,), lambda m: 100 * (m[0] - 1))

    def json(self) -> dict[str, Any]:
        """Numbers with their 95 % intervals, HETEE's published numbers, and all samples."""
        estimates = {
            name: getattr(self, name)
            for name in ("throughput_overhead_pct", "latency_overhead_pct", "added_ms_per_image", "over_baseline_pct")
        }
        theirs = self.published
        baseline, service = self.latencies
        return {
            "task": self.task,
            "network": self.network,
            "batch": self.batch,
            "preprocess": self.preprocess,
            "compute": self.compute,
            **{name: round(found.value, 4) for name, found in estimates.items()},
            "interval_95": {name: found.json() for name, found in estimates.items()},
            "breakdown_ms": self.breakdown.json(),
            "baseline": {
                "breakdown_ms": baseline.breakdown.json(),
                "images_per_s": round(statistics.median(self.rates[0]) * self.batch, 3),
            },
            "images_per_s": round(statistics.median(self.rates[1]) * self.batch, 3),
            "hetee": {
                "throughput_overhead_pct": theirs.throughput_overhead_pct,
                "latency_overhead_pct": theirs.latency_overhead_pct,
                "added_ms_per_image": round(theirs.encryption_and_transfer_ms / self.batch, 4),
                "breakdown_ms": {
                    "preprocess": theirs.preprocess_ms,
                    "compute": theirs.compute_ms,
                    "encryption_and_transfer": theirs.encryption_and_transfer_ms,
                },
            },
            "samples": {
                "latency_ms": {"baseline": baseline.json(), "service": service.json()},
                "batches_per_s": {"baseline": self.rates[0], "service": self.rates[1]},
            },
        }
