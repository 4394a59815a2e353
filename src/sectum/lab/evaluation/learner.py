"""The seam: what learns latencies from measured networks, and then predicts them for networks that it never saw.

Whoever predicts is handed a `KnownNetwork`: all that is known before anybody measures, and no way to the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from sectum.lab.training.measured import MeasuredNetwork
from sectum.measure.reference import References
from sectum.ort import stored
from sectum.ort.cpu import Cpu
from sectum.ort.optimized import OptimizedGraph
from sectum.ort.page_trace import PageTrace, page_trace
from sectum.paging.replacement import PagingCounts, steady_state
from sectum.predict.features import OperatorFeatures, extract


@dataclass(frozen=True)
class KnownNetwork:
    """A network before it is measured.

    Attributes:
        structure: digest that two equal networks share.
        batch: images in an inference.
        threads: compute threads.
        machine: where it is to run.
        references: that machine's typical times of the reference kernels: how fast it is, not what networks take.
        cpu: kind of CPU there.
    """

    structure: str
    batch: int
    threads: int
    machine: str
    references: References
    cpu: Cpu
    _stored_graph: str = field(repr=False)

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
                self.trace.touches_under(epc_pages), epc_pages, operators=len(self.features.kinds)
            )
        return self._counts[epc_pages]


@dataclass(frozen=True, slots=True)
class Case:
    """A question: what this network takes under so much protected memory.

    Attributes:
        network: as far as it is known.
        epc_pages: whole pages of protected memory; None outside enclaves.
    """

    network: KnownNetwork
    epc_pages: int | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """An answer.

    Attributes:
        latency_ms: of an inference, at the machine's typical speed.
        interval_ms: between these it lies nine times in ten; None where the learner does not say.
        over_commitment: probability that the network pages, from 0 to 1; None where the learner does not say.
    """

    latency_ms: float
    interval_ms: tuple[float, float] | None = None
    over_commitment: float | None = None


class FittedLearner(Protocol):
    """What was learned."""

    def predict(self, cases: Sequence[Case]) -> Sequence[Estimate]:
        """Answer each case, in order."""
        ...


class LatencyLearner(Protocol):
    """A way to learn latencies.

    Attributes:
        name: short, of small letters and dashes.
    """

    name: str

    def fit(self, networks: Sequence[MeasuredNetwork]) -> FittedLearner:
        """Learn from networks, each measured natively and under some sizes of EPC.

        What was computed before, such as features, may be kept in the networks; nothing else is changed.
        """
        ...


def known(network: MeasuredNetwork) -> KnownNetwork:
    """The network without its measurements; what was computed from its graph is taken over."""
    view = KnownNetwork(
        network.structure,
        network.batch,
        network.threads,
        network.machine,
        network.typical,
        network.cpu,
        network._stored_graph,
    )
    computed = vars(network)
    for name in ("graph", "features", "trace", "_counts"):
        if name in computed:
            vars(view)[name] = computed[name]
    return view
