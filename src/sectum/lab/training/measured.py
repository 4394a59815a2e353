"""Measured networks of a dataset, as learning and judging need them: milliseconds, graphs, features, page traces."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.lab.dataset import dataset
from sectum.measure.reference import References
from sectum.ort import stored
from sectum.ort.cpu import Cpu
from sectum.ort.optimized import OptimizedGraph
from sectum.ort.page_trace import PageTrace, page_trace
from sectum.paging.replacement import PagingCounts, steady_state
from sectum.predict.features import OperatorFeatures, extract
from sectum.units import PAGE_BYTES

_COLUMNS = (
    "key", "family", "source", "batch", "threads", "structure", "topology", "graph", "working_set_bytes",
    "operator_times", "error", "machine", "date",
    *(f"runs.list.element.{name}" for name in (
        "place", "epc_bytes", "latency", "uncertainty", "products_ms", "sums_ms", "sums_share", "settled", "loads",
        "evictions", "minor_faults",
    )),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """A network in one place.

    Attributes:
        epc_bytes: None natively.
        latency_ms: of an inference, at the machine's typical speed.
        uncertainty: half-width of its 95 % interval, relative to it.
        loads: pages loaded in one steady-state inference.
        evictions: pages evicted.
        minor_faults: resident pages mapped again.
        settled: whether these counts were steady.
        over_committed: whether it pages; see `sectum.lab.dataset.dataset.is_over_committed`.
    """

    epc_bytes: int | None
    latency_ms: float
    uncertainty: float
    loads: float
    evictions: float
    minor_faults: float
    settled: bool
    over_committed: bool

    @property
    def epc_pages(self) -> int | None:
        """Whole pages of protected memory."""
        return None if self.epc_bytes is None else self.epc_bytes // PAGE_BYTES


@dataclass(frozen=True)
class MeasuredNetwork:
    """One network on one machine.

    Attributes:
        key: names it; ends in ``#1`` where it was measured before.
        family: that it belongs to.
        structure: digest that two equal networks share.
        topology: digest that near relatives share, whatever their widths and resolution.
        batch: images in an inference.
        threads: compute threads.
        machine: where.
        date: when.
        working_set_bytes: measured, in whole pages.
        operator_ms: native time of each operator by the runtime's profile, shape ``(operators,)``; None where that
            could not be matched.
        native: the run outside enclaves.
        runs: those in the software enclave.
        typical: the machine's typical reference times, which all milliseconds here are at.
        cpu: kind of CPU there.
    """

    key: str
    family: str
    structure: str
    topology: str
    batch: int
    threads: int
    machine: str
    date: str
    working_set_bytes: int
    operator_ms: NDArray[np.float64] | None
    native: MeasuredRun
    runs: tuple[MeasuredRun, ...]
    typical: References
    cpu: Cpu
    _stored_graph: str = field(repr=False)

    @property
    def is_repeat(self) -> bool:
        """Whether it had been measured before."""
        return "#" in self.key

    def occupation(self, run: MeasuredRun) -> float:
        """Working set over EPC; 0 natively."""
        return 0.0 if run.epc_bytes is None else self.working_set_bytes / run.epc_bytes

    def is_boundary(self, run: MeasuredRun) -> bool:
        """Whether working set and EPC are of about one size."""
        low, high = dataset.BOUNDARY
        return low <= self.occupation(run) <= high

    @cached_property
    def graph(self) -> OptimizedGraph:
        """What the runtime executes."""
        return stored.loads(self._stored_graph, self.cpu)

    @cached_property
    def features(self) -> OperatorFeatures:
        """Its operators as numbers."""
        return extract(self.graph, threads=self.threads)

    @cached_property
    def trace(self) -> PageTrace:
        """Pages that an inference touches, as modelled."""
        return page_trace(self.graph, threads=self.threads)

    @cached_property
    def _counts(self) -> dict[int | None, PagingCounts]:
        return {}

    def paging(self, epc_pages: int | None) -> PagingCounts:
        """Page faults of a steady-state inference, as modelled."""
        if epc_pages not in self._counts:
            self._counts[epc_pages] = steady_state(
                self.trace.touches_under(epc_pages), epc_pages, operators=len(self.graph.operators)
            )
        return self._counts[epc_pages]


def read(folder: Path) -> list[MeasuredNetwork]:
    """All networks of a dataset that were measured without failure, those measured again included.

    Raises:
        UsageError: pyarrow is not installed.
        DatasetInvalid: a shard is damaged or of another format, or there is none.
    """
    rows = [row for row in dataset.read(folder, _COLUMNS) if not row["error"]]
    typical = typical_references(rows)
    cpus = {machine: stored.seen_cpu(row["graph"] for row in rows if row["machine"] == machine) for machine in typical}
    return [_network(row, typical[row["machine"]], cpus[row["machine"]]) for row in rows]


def typical_references(rows: Iterable[Mapping[str, Any]]) -> dict[str, References]:
    """Mean time of each reference kernel on each machine, over all runs there."""
    runs: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        runs[row["machine"]] += row["runs"]
    return {
        machine: References(*(statistics.fmean(run[name] for run in its) for name in ("products_ms", "sums_ms")))
        for machine, its in runs.items()
    }


def _network(row: Mapping[str, Any], typical: References, cpu: Cpu) -> MeasuredNetwork:
    native, *others = sorted(row["runs"], key=lambda run: run["place"] != "native")
    times = row["operator_times"]
    native_ms = typical.mixed_ms(native["sums_share"])
    return MeasuredNetwork(
        key=row["key"],
        family=row["family"],
        structure=row["structure"],
        topology=row["topology"],
        batch=row["batch"],
        threads=row["threads"],
        machine=row["machine"],
        date=row["date"],
        working_set_bytes=row["working_set_bytes"],
        operator_ms=None if times is None else np.asarray(times, dtype=np.float64) * native_ms,
        native=_run(native, typical, row["working_set_bytes"]),
        runs=tuple(_run(run, typical, row["working_set_bytes"]) for run in others),
        typical=typical,
        cpu=cpu,
        _stored_graph=row["graph"],
    )


def _run(run: Mapping[str, Any], typical: References, working_set_bytes: int) -> MeasuredRun:
    return MeasuredRun(
        epc_bytes=run["epc_bytes"],
        latency_ms=run["latency"] * typical.mixed_ms(run["sums_share"]),
        uncertainty=float("inf") if run["uncertainty"] is None else run["uncertainty"],
        loads=run["loads"],
        evictions=run["evictions"],
        minor_faults=run["minor_faults"],
        settled=run["settled"],
        over_committed=dataset.is_over_committed(run["loads"], working_set_bytes),
    )


def without_repeats(networks: Sequence[MeasuredNetwork]) -> list[MeasuredNetwork]:
    """Each network once, as it was measured first."""
    return [network for network in networks if not network.is_repeat]
