"""The study's measurements as points: one network in one enclave, beside its native run."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sectum.lab.dataset.dataset import is_over_committed
from sectum.lab.study import store
from sectum.lab.study.cases import Sweep
from sectum.lab.study.networks import Kind, Order
from sectum.measure.reference import References
from sectum.ort import stored
from sectum.ort.cpu import Cpu
from sectum.ort.optimized import OptimizedGraph
from sectum.units import PAGE_BYTES


@dataclass(frozen=True)
class Network:
    """What the points of one case share.

    Attributes:
        key: of the case.
        sweep: that it belongs to.
        kind: what fills its memory.
        order: in which it comes back to that.
        distinct: matrices, or maps.
        steps: see `sectum.lab.study.networks.Synthetic`.
        resolution: of the maps, in pixels.
        batch: images in an inference.
        policy: of eviction.
        threads: of the runtime.
        flops: of an inference.
        weight_bytes: of what the runtime executes.
        working_set_bytes: measured, in whole pages.
        graph_text: what the runtime executes, as `sectum.ort.stored` writes it.
        nchwc_block: floats in a block of the runtime's layout.
        native_ms: latency outside an enclave.
    """

    key: str
    sweep: Sweep
    kind: Kind
    order: Order
    distinct: int
    steps: int
    resolution: int
    batch: int
    policy: str
    threads: int
    flops: int
    weight_bytes: int
    working_set_bytes: int
    graph_text: str
    nchwc_block: int
    native_ms: float

    @cached_property
    def graph(self) -> OptimizedGraph:
        """What the runtime executes."""
        return stored.loads(self.graph_text, Cpu.of_block(self.nchwc_block))


@dataclass(frozen=True, slots=True)
class Point:
    """A network in the enclave; page counts are of one inference.

    Attributes:
        network: that was run.
        epc_bytes: protected memory; None without a limit.
        latency_ms: at the machine's typical speed.
        unlimited_ms: latency in the same enclave without a limit.
        loads: sealed pages brought back.
        minor_faults: resident pages mapped again.
        uncertainty: half-width of the latency's 95 % interval, relative to it; None for a single sample.
        settled: whether page counts had settled before the first sample.
    """

    network: Network
    epc_bytes: int | None
    latency_ms: float
    unlimited_ms: float
    loads: float
    minor_faults: float
    uncertainty: float | None
    settled: bool

    @property
    def occupation(self) -> float:
        """Working set over EPC; 0 without a limit."""
        return self.network.working_set_bytes / self.epc_bytes if self.epc_bytes else 0.0

    @property
    def loaded_share(self) -> float:
        """Pages loaded in an inference over pages of the working set; above 1 where some are loaded repeatedly."""
        return self.loads * PAGE_BYTES / self.network.working_set_bytes

    @property
    def is_over_committed(self) -> bool:
        """Whether it pages in the steady state."""
        return is_over_committed(self.loads, self.network.working_set_bytes)

    @property
    def extra_ms(self) -> float:
        """What the limit costs."""
        return self.latency_ms - self.unlimited_ms

    @property
    def load_us(self) -> float:
        """What the limit costs, for each page loaded; only where it pages."""
        return 1e3 * self.extra_ms / self.loads

    @property
    def slowdown(self) -> float:
        """Latency over native latency."""
        return self.latency_ms / self.network.native_ms


@dataclass(frozen=True)
class Profile:
    """Times of a network's operators in one place, in their order.

    Attributes:
        network: that was run.
        epc_bytes: protected memory; None natively.
        operator_ms: at the machine's typical speed.
    """

    network: Network
    epc_bytes: int | None
    operator_ms: tuple[float, ...]


@dataclass(frozen=True)
class Study:
    """All that was measured.

    Attributes:
        points: those in an enclave.
        profiles: of single operators.
        failures: keys of cases without measurements, with the reasons.
        references: typical times of the reference kernels, which turn ratios into milliseconds.
        contexts: of the shards, by file name.
        seconds: that measuring took.
        unequal: runs whose outputs are not those of the native run.
    """

    points: tuple[Point, ...]
    profiles: tuple[Profile, ...]
    failures: Mapping[str, str]
    references: References
    contexts: Mapping[str, Mapping[str, Any]]
    seconds: float
    unequal: int

    def of(self, *sweeps: Sweep, threads: int = 1) -> list[Point]:
        """Points of some sweeps; of all if none is named."""
        chosen = sweeps or tuple(Sweep)
        return [p for p in self.points if p.network.sweep in chosen and p.network.threads == threads]


def load(folder: Path) -> Study:
    """Read a study.

    Raises:
        UsageError: pyarrow is not installed.
        DatasetInvalid: a shard is damaged or of another format, or there is none.
    """
    rows = list(store.read(folder))
    measured = [row for row in rows if not row["error"]]
    runs = [run for row in measured for run in row["runs"]]
    references = References(*(_median(run[name] for run in runs) for name in ("products_ms", "sums_ms")))
    points: list[Point] = []
    profiles: list[Profile] = []
    for row in measured:
        native, *enclaves = row["runs"]
        network = _network(row, _ms(native, references))
        points += _points(network, enclaves, references)
        profiles += [
            Profile(network, profile["epc_bytes"], tuple(references.mixed_ms(0) * t for t in profile["operator_times"]))
            for profile in row["profiles"]
        ]
    return Study(
        points=tuple(points),
        profiles=tuple(profiles),
        failures={row["key"]: row["error"] for row in rows if row["error"]},
        references=references,
        contexts=store.contexts(folder),
        seconds=sum(row["seconds"] for row in rows),
        unequal=sum(not run["outputs_equal_native"] for run in runs),
    )


def _network(row: Mapping[str, Any], native_ms: float) -> Network:
    same = (
        "key", "distinct", "steps", "resolution", "batch", "policy", "threads", "flops", "weight_bytes",
        "working_set_bytes", "nchwc_block",
    )  # fmt: skip
    return Network(
        **{name: row[name] for name in same},
        sweep=Sweep(row["sweep"]),
        kind=Kind(row["kind"]),
        order=Order(row["order"]),
        graph_text=row["graph"],
        native_ms=native_ms,
    )


def _points(network: Network, runs: Iterable[Mapping[str, Any]], references: References) -> list[Point]:
    unlimited, *limited = runs
    return [
        Point(
            network=network,
            epc_bytes=run["epc_bytes"],
            latency_ms=_ms(run, references),
            unlimited_ms=_ms(unlimited, references),
            loads=run["loads"],
            minor_faults=run["minor_faults"],
            uncertainty=run["uncertainty"],
            settled=run["settled"],
        )
        for run in (unlimited, *limited)
    ]


def _ms(run: Mapping[str, Any], references: References) -> float:
    """Latency at the machine's typical speed."""
    return float(run["latency"]) * references.mixed_ms(run["sums_share"])


def _median(values: Iterable[float]) -> float:
    found = list(values)
    return statistics.median(found) if found else 0.0
