"""Graph outputs and scratch memory in the runtime's arena."""

from __future__ import annotations

import pytest

from kinds_of_models import Network
from sectum.graph import read
from sectum.ort import Cpu, OptimizedGraph, optimize
from sectum.ort.arena import BLOCK, ArenaLayout, arena_layout
from sectum.ort.memory_plan import memory_plan
from sectum.ort.operators import describe
from sectum.units import MIB


@pytest.fixture
def unet(tmp_path) -> OptimizedGraph:
    """A transposed convolution with a column buffer of 3 MiB, and an output of 1.5 MiB behind it."""
    network = Network()
    x = network.op("Relu", network.input(1, 64, 6144))
    x = network.op("ConvTranspose", x, network.weight(64, 64, 2), strides=[2])
    x = network.op("Sigmoid", network.op("Conv", x, network.weight(32, 64, 1)))
    path = tmp_path / "unet.onnx"
    path.write_bytes(network.model(x))
    return optimize(read(path).graph, Cpu.AVX2)


def layout(graph: OptimizedGraph) -> tuple[ArenaLayout, list[tuple[int, ...]]]:
    scratch = [describe(op).scratch(op, graph, 1) for op in graph.operators]
    return arena_layout(graph, memory_plan(graph), scratch, ()), scratch


def test_an_output_lies_where_scratch_memory_was(unet: OptimizedGraph) -> None:
    """A kernel gives its scratch memory back before a later operator asks for its output."""
    made, scratch = layout(unet)
    (output,) = unet.outputs
    ((index, (size,)),) = [(i, sizes) for i, sizes in enumerate(scratch) if sizes]
    start = made.scratch[index][0]
    assert size == 3 * MIB
    assert start <= made.address[output] < start + size


def test_what_is_used_together_lies_apart(unet: OptimizedGraph) -> None:
    """The block of activations overlaps neither an output nor scratch memory."""
    made, scratch = layout(unet)
    block = memory_plan(unet).block_bytes
    start = made.address[BLOCK]
    for address in (made.address[unet.outputs[0]], *(first for firsts in made.scratch for first in firsts)):
        assert not start <= address < start + block
    assert made.n_pages * 4096 >= block + max(sum(sizes) for sizes in scratch)
