"""Networks of a dataset: what is known before a measurement, and what was measured."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.lab.dataset import dataset
from sectum.lab.detector.features import GraphFeatures
from sectum.lab.detector.features import extract as graph_features
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
    """One run of a network, natively or in an enclave.

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
class KnownNetwork:
    """What is known of a network on one machine before it is measured, and what follows from its graph.

    Attributes:
        structure: digest that two equal networks share.
        batch: images in an inference.
        threads: compute threads.
        machine: name of the machine.
        references: that machine's typical times of the reference kernels: how fast it is.
        cpu: its kind of CPU.
    """

    structure: str
    batch: int
    threads: int
    machine: str
    references: References
    cpu: Cpu
    _stored_graph: str = field(repr=False)

    @property
    def unit_ms(self) -> float:
        """The unit of normalized latencies: the typical time of the GEMM reference kernel."""
        return self.references.products_ms

    @property
    def identity(self) -> Hashable:
        """Two networks with this in common have the same operators on the same machine."""
        return self.structure, self.batch, self.threads, self.machine

    @cached_property
    def graph(self) -> OptimizedGraph:
        """The optimized graph."""
        return stored.loads(self._stored_graph, self.cpu)

    @cached_property
    def features(self) -> OperatorFeatures:
        """Its operators as numbers, for operator models."""
        return extract(self.graph, threads=self.threads)

    @cached_property
    def graph_features(self) -> GraphFeatures:
        """Its operators and data flow as numbers, for the detector."""
        return graph_features(self.graph)

    @cached_property
    def trace(self) -> PageTrace:
        """The modelled page trace of an inference."""
        return page_trace(self.graph, threads=self.threads)

    @cached_property
    def _counts(self) -> dict[int | None, PagingCounts]:
        return {}

    def paging(self, epc_pages: int | None) -> PagingCounts:
        """Modelled page faults of a steady-state inference."""
        if epc_pages not in self._counts:
            self._counts[epc_pages] = steady_state(
                self.trace.touches_under(epc_pages), epc_pages, operators=len(self.features.kinds)
            )
        return self._counts[epc_pages]


COMPUTED = ("features", "graph_features", "trace", "_counts")
"""What a network computes once from its graph and keeps, beside the graph itself."""


@dataclass(frozen=True)
class MeasuredNetwork(KnownNetwork):
    """One network as it was measured on one machine.

    Attributes:
        key: name of the network; ends in ``#1`` where it had been measured before.
        family: of the network.
        topology: digest that near relatives share, whatever their widths and resolution.
        date: of the measurement, ISO 8601.
        working_set_bytes: measured, in whole pages.
        operator_ms: native time of each operator by the runtime's profile, shape ``(operators,)``; None where the
            profile could not be matched.
        native: the run outside enclaves.
        runs: the runs in the software enclave.
    """

    key: str
    family: str
    topology: str
    date: str
    working_set_bytes: int
    operator_ms: NDArray[np.float64] | None
    native: MeasuredRun
    runs: tuple[MeasuredRun, ...]

    @property
    def is_repeat(self) -> bool:
        """Whether it had been measured before."""
        return "#" in self.key

    def epc_ratio(self, run: MeasuredRun) -> float:
        """Working set / EPC; 0 natively."""
        return 0.0 if run.epc_bytes is None else self.working_set_bytes / run.epc_bytes


def known(network: KnownNetwork) -> KnownNetwork:
    """The network without its measurements; what was computed from its graph is kept."""
    view = KnownNetwork(*(getattr(network, one.name) for one in fields(KnownNetwork)))
    vars(view).update({name: vars(network)[name] for name in ("graph", *COMPUTED) if name in vars(network)})
    return view


def read(folder: Path) -> list[MeasuredNetwork]:
    """All networks of a dataset that were measured without failure, repeats included.

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
    native, *others = dataset.with_one_native(row["runs"])
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
        references=typical,
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
    """Each network once, as first measured."""
    return [network for network in networks if not network.is_repeat]
