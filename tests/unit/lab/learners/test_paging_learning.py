"""What is learned of pages, on laws that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from measured_networks import made_up
from sectum import zoo
from sectum.errors import UsageError
from sectum.lab.learners.measured import MeasuredNetwork, MeasuredRun
from sectum.lab.learners.paging_learning import learn_page_costs
from sectum.measure.reference import References
from sectum.ort import stored
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.units import PAGE_BYTES

COSTS_US = {"conv": 22.0, "gemm": 15.0}
OTHER_US, MINOR_US = 19.0, 8.0
SUMS_MS = 2.0
NAMES = ("alexnet", "vgg11", "mobilenet_v2", "resnet18", "squeezenet1_1", "googlenet")


def paging_network(name: str, resolution: int) -> MeasuredNetwork:
    """A network that pages as modelled, at costs that depend on the kind of operator."""
    runtime = optimize(zoo.to_graph(zoo.network(name, resolution=resolution), 1), Cpu.AVX2)
    native = MeasuredRun(None, 20.0, 0.01, 0.0, 0.0, 0.0, settled=True, over_committed=False)
    empty = made_up(
        0, key=name, working_set_bytes=0, native=native, runs=(), references=References(2.0, SUMS_MS),
        _stored_graph=stored.dumps(runtime),
    )  # fmt: skip
    runs = []
    costs = np.array([COSTS_US.get(group, OTHER_US) for group in empty.features.kinds])
    for share in (0.3, 0.5, 0.8):
        pages = int(share * empty.trace.pages)
        counts = empty.paging(pages)
        paging_ms = (costs @ counts.loads_by_operator + MINOR_US * counts.minor_faults) / 1e3
        latency_ms = 20.0 + paging_ms
        loads, evictions, minor = counts.loads, counts.evictions, counts.minor_faults
        runs.append(MeasuredRun(pages * PAGE_BYTES, latency_ms, 0.02, loads, evictions, minor, True, True))
    return replace(empty, working_set_bytes=empty.trace.pages * PAGE_BYTES, runs=tuple(runs))


@pytest.fixture(scope="module")
def networks() -> list[MeasuredNetwork]:
    return [paging_network(name, resolution) for name in NAMES for resolution in (96, 160)]


def test_costs_of_each_kind_are_found(networks):
    """What a page of a convolution and of a matrix product costs comes out within a twentieth."""
    found = learn_page_costs(networks)
    for group, cost_us in COSTS_US.items():
        assert 1e3 * SUMS_MS * found.swap * found.factors[group] == pytest.approx(cost_us, rel=0.05)
    assert found.rows == 3 * len(networks)


def test_a_kind_that_never_pages_costs_about_the_mean(networks):
    """Nothing is made of nothing: no transposed convolution pages in these networks."""
    assert learn_page_costs(networks).factors["plain_conv"] == pytest.approx(1.0, abs=0.1)


def test_what_was_learned_gives_the_time_of_an_inference(networks):
    """Costs of the kinds, times the pages of each, explain what an inference takes beyond its native latency."""
    found = learn_page_costs(networks)
    for network in networks:
        for run in network.runs:
            paging_ms = SUMS_MS * found.normalized_time(network.features, network.paging(run.epc_pages), run.epc_pages)
            assert network.native.latency_ms + paging_ms == pytest.approx(run.latency_ms, rel=0.1)


def test_without_paging_it_is_refused():
    """The error says what to collect."""
    with pytest.raises(UsageError, match="collect some under small EPC sizes"):
        learn_page_costs([])
