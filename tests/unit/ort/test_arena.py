"""Graph outputs and scratch memory in the runtime's arena."""

from __future__ import annotations

import pytest

from kinds_of_models import Network
from sectum.graph import read
from sectum.ort import Cpu, OptimizedGraph, optimize
from sectum.ort.arena import BLOCK, ArenaLayout, arena_layout
from sectum.ort.memory_plan import memory_plan
from sectum.ort.operators import describe

PACKED = (4 * 128 * 64 * 4,)
"""Bytes of the transposed convolution's packed weight, which lies in the arena."""


@pytest.fixture
def unet(tmp_path) -> OptimizedGraph:
    """A transposed convolution with a column buffer of 1.92 MB, and an output of 0.96 MB behind it."""
    network = Network()
    x = network.op("Conv", network.input(1, 16, 7500), network.weight(64, 16, 15), pads=[7, 7], strides=[2])
    x = network.op("Conv", network.gelu(x), network.weight(128, 64, 15), pads=[7, 7], strides=[2])
    x = network.op("ConvTranspose", x, network.weight(128, 64, 4), strides=[2], pads=[1, 1])
    path = tmp_path / "unet.onnx"
    path.write_bytes(network.model(network.op("Sigmoid", x)))
    return optimize(read(path).graph, Cpu.AVX2)


def layout(graph: OptimizedGraph) -> tuple[ArenaLayout, list[tuple[int, ...]]]:
    scratch = [describe(op).scratch(op, graph, 1) for op in graph.operators]
    return arena_layout(graph, memory_plan(graph), scratch, PACKED), scratch


def test_an_output_lies_where_scratch_memory_was(unet: OptimizedGraph) -> None:
    """A kernel gives its scratch memory back before a later operator asks for its output."""
    made, scratch = layout(unet)
    (output,) = unet.outputs
    index = [op.type for op in unet.operators].index("ConvTranspose")
    ((size,), (start,)) = scratch[index], made.scratch[index]
    assert size == 1_920_000
    assert start <= made.address[output] < start + size


def test_what_is_used_together_lies_apart(unet: OptimizedGraph) -> None:
    """The block of activations overlaps neither an output nor scratch memory."""
    made, scratch = layout(unet)
    block = memory_plan(unet).block_bytes
    start = made.address[BLOCK]
    for address in (made.address[unet.outputs[0]], *(first for firsts in made.scratch for first in firsts)):
        assert not start <= address < start + block
    assert made.n_pages * 4096 >= block + max(sum(sizes) for sizes in scratch)
