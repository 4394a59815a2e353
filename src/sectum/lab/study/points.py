"""The study's measurements as points: one case at one EPC size, beside its native run."""

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
class MeasuredCase:
    """A case and what was measured of it natively; its points share it.

    Attributes:
        key, sweep, policy, threads: see `sectum.lab.study.cases.StudyCase`.
        kind, order, distinct, steps, resolution, batch: see `sectum.lab.study.networks.Synthetic`.
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
    """A case in the enclave; page counts are of one inference.

    Attributes:
        case: that was measured.
        epc_bytes: protected memory; None without a limit.
        latency_ms: at the machine's typical speed.
        unlimited_ms: latency in the same enclave without a limit.
        loads: pages loaded.
        minor_faults: resident pages mapped again.
        settled: whether page counts had settled before the first sample.
    """

    case: MeasuredCase
    epc_bytes: int | None
    latency_ms: float
    unlimited_ms: float
    loads: float
    minor_faults: float
    settled: bool

    @property
    def working_set_over_epc(self) -> float:
        """Over 1, the working set does not fit; 0 without a limit."""
        return self.case.working_set_bytes / self.epc_bytes if self.epc_bytes else 0.0

    @property
    def loaded_share(self) -> float:
        """Pages loaded in an inference over pages of the working set; above 1 where some are loaded repeatedly."""
        return self.loads * PAGE_BYTES / self.case.working_set_bytes

    @property
    def is_over_committed(self) -> bool:
        """Whether it pages in the steady state."""
        return is_over_committed(self.loads, self.case.working_set_bytes)

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
        return self.latency_ms / self.case.native_ms

    def paging_ms(self, load_us: float, minor_fault_us: float) -> float:
        """What its page counts cost, at these prices."""
        return (load_us * self.loads + minor_fault_us * self.minor_faults) / 1e3


@dataclass(frozen=True)
class OperatorProfile:
    """Times of a case's operators, in order, under an EPC or natively, at the machine's typical speed."""

    case: MeasuredCase
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
    profiles: tuple[OperatorProfile, ...]
    failures: Mapping[str, str]
    references: References
    contexts: Mapping[str, Mapping[str, Any]]
    seconds: float
    unequal: int

    def of(self, *sweeps: Sweep) -> list[Point]:
        """Points of some sweeps with one compute thread; of all sweeps if none is named."""
        chosen = sweeps or tuple(Sweep)
        return [p for p in self.points if p.case.sweep in chosen and p.case.threads == 1]


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
    profiles: list[OperatorProfile] = []
    for row in measured:
        native, *enclaves = row["runs"]
        case = _case(row, _ms(native, references))
        points += _points(case, enclaves, references)
        profiles += [
            OperatorProfile(
                case, profile["epc_bytes"], tuple(references.mixed_ms(0) * t for t in profile["operator_times"])
            )
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


def _case(row: Mapping[str, Any], native_ms: float) -> MeasuredCase:
    same = (
        "key", "distinct", "steps", "resolution", "batch", "policy", "threads", "flops", "weight_bytes",
        "working_set_bytes", "nchwc_block",
    )  # fmt: skip
    return MeasuredCase(
        **{name: row[name] for name in same},
        sweep=Sweep(row["sweep"]),
        kind=Kind(row["kind"]),
        order=Order(row["order"]),
        graph_text=row["graph"],
        native_ms=native_ms,
    )


def _points(case: MeasuredCase, runs: Iterable[Mapping[str, Any]], references: References) -> list[Point]:
    unlimited, *limited = runs
    return [
        Point(
            case=case,
            epc_bytes=run["epc_bytes"],
            latency_ms=_ms(run, references),
            unlimited_ms=_ms(unlimited, references),
            loads=run["loads"],
            minor_faults=run["minor_faults"],
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
