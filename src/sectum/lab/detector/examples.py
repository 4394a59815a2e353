"""What the detector learns from and is judged by: features of a network and its working set."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sectum.lab.detector.features import GraphFeatures, extract
from sectum.lab.detector.simulated import SimulatedNetwork
from sectum.lab.training.measured import MeasuredNetwork
from sectum.ort import stored
from sectum.ort.cpu import Cpu
from sectum.units import PAGE_BYTES


@dataclass(frozen=True)
class Example:
    """One network.

    Attributes:
        key: names it.
        family: that it belongs to.
        topology: digest that near relatives share.
        features: with the page model's working set among them.
        working_set_bytes: measured or, of a simulated example, the page model's.
        simulated: which of both: a simulated example is learned from, never judged by.
        rows: size of the EPC in bytes and whether the network paged in it, of each run measured.
    """

    key: str
    family: str
    topology: str
    features: GraphFeatures
    working_set_bytes: int
    simulated: bool
    rows: tuple[tuple[int, bool], ...]

    @property
    def page_model_bytes(self) -> float:
        """Working set of the page-replacement model."""
        return float(self.features.page_model_bytes[0])

    def target(self, *, with_page_model: bool) -> float:
        """What the network is to say: log of the working set over its first estimate."""
        first = self.page_model_bytes if with_page_model else float(self.features.first_estimate_bytes[0])
        return math.log(self.working_set_bytes / first)


def from_measured(networks: Iterable[MeasuredNetwork]) -> list[Example]:
    """Measured networks that touch memory which is paged; about 20 ms each."""
    return [
        Example(
            key=network.key,
            family=network.family,
            topology=network.topology,
            features=extract(network.graph, network.trace.pages * PAGE_BYTES),
            working_set_bytes=network.working_set_bytes,
            simulated=False,
            rows=tuple((run.epc_bytes, run.over_committed) for run in network.runs if run.epc_bytes is not None),
        )
        for network in networks
        if network.working_set_bytes > 0 and network.trace.pages > 0
    ]


def from_simulated(networks: Iterable[SimulatedNetwork]) -> list[Example]:
    """Networks that nobody measured."""
    return [
        Example(
            key=f"simulated/{network.structure}",
            family=network.family,
            topology=network.topology,
            features=extract(stored.loads(network.graph, Cpu.AVX2), network.page_model_bytes),
            working_set_bytes=network.page_model_bytes,
            simulated=True,
            rows=(),
        )
        for network in networks
        if network.page_model_bytes > 0
    ]
