"""The study's networks are what they say: one thing varies and the others are held."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from sectum.errors import UsageError
from sectum.graph.ir import Graph
from sectum.graph.reader import read
from sectum.lab.study.networks import INPUT, Kind, Order, Synthetic, to_bytes, uses
from sectum.ort.costs import cost
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.ort.page_trace import page_trace
from sectum.paging.replacement import working_set_pages
from sectum.units import PAGE_BYTES

WEIGHTS = Synthetic(kind=Kind.WEIGHTS, order=Order.CYCLE, distinct=4, steps=12, channels=256, resolution=2)
MAPS = Synthetic(kind=Kind.MAPS, order=Order.BACK, distinct=5, steps=3, channels=8, resolution=64)
MATRIX_BYTES, MAP_BYTES = 4 * 256 * 256, 4 * 8 * 64 * 64
ALL = [
    *(replace(WEIGHTS, order=order) for order in Order),
    *(replace(MAPS, order=order) for order in (Order.CYCLE, Order.BACK)),
]


def executed(network: Synthetic) -> Graph:
    return optimize(read(to_bytes(network)).graph, Cpu.here())


def flops(network: Synthetic) -> int:
    graph = executed(network)
    return sum(cost(op, graph).flops for op in graph.operators)


def working_set_bytes(network: Synthetic) -> int:
    trace = page_trace(executed(network))
    return PAGE_BYTES * working_set_pages(trace.touches)


@pytest.mark.parametrize("network", ALL, ids=lambda network: network.key)
def test_a_network_is_valid_and_computes_ordinary_numbers(network: Synthetic) -> None:
    """Nothing infinite, and nothing so small that arithmetic is slow."""
    content = to_bytes(network)
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    shape = (network.batch, network.channels, network.resolution, network.resolution)
    (output,) = session.run(None, {INPUT: np.random.default_rng(0).random(shape, np.float32)})
    assert output.shape == shape
    assert np.isfinite(output).all()
    assert 1e-3 < np.abs(output).mean() < 1e3


@pytest.mark.parametrize("network", ALL, ids=lambda network: network.key)
def test_equal_fields_make_equal_networks_and_the_seed_other_weights(network: Synthetic) -> None:
    """A study can be measured again on another machine."""
    assert to_bytes(network) == to_bytes(replace(network))
    if network.kind is Kind.WEIGHTS:
        assert to_bytes(network) != to_bytes(replace(network, seed=1))


@pytest.mark.parametrize("order", [Order.CYCLE, Order.BACK, Order.BLOCKS])
@pytest.mark.parametrize("distinct", [1, 3, 6, 12])
def test_memory_varies_while_computation_is_held(order: Order, distinct: int) -> None:
    """The number of matrices decides the working set and nothing else."""
    network = replace(WEIGHTS, order=order, distinct=distinct)
    assert flops(network) == flops(WEIGHTS)
    assert executed(network).weight_bytes == distinct * MATRIX_BYTES
    assert 0 <= working_set_bytes(network) - distinct * MATRIX_BYTES < 0.1 * MATRIX_BYTES


def test_computation_of_weights_varies_while_memory_is_held() -> None:
    """The size of the maps decides the work; they are small."""
    small, large = replace(WEIGHTS, resolution=1), replace(WEIGHTS, resolution=4)
    assert flops(large) > 12 * flops(small)
    assert working_set_bytes(large) < 1.1 * working_set_bytes(small)


@pytest.mark.parametrize("order", [Order.CYCLE, Order.BACK])
def test_all_maps_are_kept_and_computation_does_not_add_to_them(order: Order) -> None:
    """Operators after the first work in place, and the sum begins when all maps are there."""
    sizes = {steps: working_set_bytes(replace(MAPS, order=order, steps=steps)) for steps in (1, 2, 6)}
    assert min(sizes.values()) >= MAPS.distinct * MAP_BYTES
    assert len(set(sizes.values())) == 1
    assert flops(replace(MAPS, steps=6)) > 2 * flops(replace(MAPS, steps=1))


def test_only_maps_grow_with_the_batch() -> None:
    """Weights are read once for all images."""
    assert executed(replace(WEIGHTS, batch=8)).weight_bytes == executed(WEIGHTS).weight_bytes
    assert working_set_bytes(replace(MAPS, batch=8)) >= 7.5 * working_set_bytes(MAPS)


@pytest.mark.parametrize(
    ("order", "used"),
    [
        (Order.CYCLE, [0, 1, 2, 0, 1, 2]),
        (Order.CYCLE, [0, 1, 2, 0, 1, 2, 2, 2]),
        (Order.BACK, [0, 1, 2, 2, 1, 0]),
        (Order.BLOCKS, [0, 0, 1, 1, 2, 2]),
        (Order.BETWEEN, [0, -1, 1, -1, 2, -1]),
    ],
)
def test_an_order_is_what_its_name_says(order: Order, used: list[int]) -> None:
    """Orders differ in when a matrix is used, not in how often."""
    network = replace(WEIGHTS, order=order, distinct=3, steps=len(used))
    assert uses(network) == used
    if order is not Order.BETWEEN and len(used) == 6:
        assert set(Counter(used).values()) == {2}


@pytest.mark.parametrize(
    "changes",
    [{"distinct": 0}, {"batch": 0}, {"steps": 3}, {"kind": Kind.MAPS, "order": Order.BLOCKS}],
)
def test_what_cannot_be_made_is_refused(changes: dict[str, Any]) -> None:
    """A network with matrices that nothing uses would not have the memory that it claims."""
    with pytest.raises(UsageError):
        replace(WEIGHTS, **changes)
