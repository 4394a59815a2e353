"""ShuffleNet V1 is the published network, and its grouped convolutions run in the layout that is predicted."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import onnx.backend.test
import pytest

from observed import optimized_by_runtime
from sectum import zoo
from sectum.graph import Graph, read
from sectum.ort import cost
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.zoo.layers import ChannelShuffle

LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light" / "light_shufflenet.onnx"
# "Complexity" in table 1 of arXiv 1707.01083: millions of multiplications and additions in the convolutions.
COMPLEXITY = {1: 143, 2: 140, 3: 137, 4: 133, 8: 137}
NAMES = [f"shufflenet_v1_g{groups}" for groups in COMPLEXITY]


@pytest.mark.parametrize(("groups", "millions"), COMPLEXITY.items())
def test_a_published_network_has_the_published_complexity(groups: int, millions: int) -> None:
    """Groups, strides and channels are the paper's: the number of parameters alone does not see the strides."""
    graph = zoo.to_graph(zoo.network(f"shufflenet_v1_g{groups}"))
    assert round(sum(cost(op, graph).flops for op in graph.operators if op.type == "Conv") / 2e6) == millions


def test_four_groups_are_wired_as_in_the_file_of_the_onnx_package() -> None:
    """Operator by operator the same but for what is known: that file halves the channels and has no bottleneck."""
    ours, theirs = zoo.to_graph(zoo.network("shufflenet_v1_g4")), read(LIGHT).graph
    run = [op for op in theirs.operators if not theirs.is_constant(op)]
    assert [op.type for op in run[-4:]] == ["AveragePool", "Reshape", "Gemm", "Softmax"]
    assert [op.type for op in ours.operators[-3:]] == ["GlobalAveragePool", "Flatten", "Gemm"]
    pointwise = []
    for mine, other in zip(ours.operators[:-3], run[:-4], strict=True):
        assert mine.type == {"Sum": "Add"}.get(other.type, other.type)
        for key in ("kernel_shape", "strides", "pads", "perm"):
            assert mine.attributes.get(key) == other.attributes.get(key), mine.name
        shape, half = ours.tensors[mine.outputs[0]].shape, theirs.tensors[other.outputs[0]].shape
        assert (len(shape), shape[-2:]) == (len(half), half[-2:])
        if mine.type in ("Add", "Concat"):
            assert shape[1] == 2 * half[1]
        if mine.type == "Conv" and mine.attributes["kernel_shape"] == (1, 1):
            pointwise.append((mine.attributes["group"], other.attributes["group"]))
    # The paper leaves the first pointwise convolution whole.
    assert pointwise == [(1, 4)] + [(4, 4)] * (len(pointwise) - 1)


def _executed(graph: Graph) -> Counter[object]:
    return Counter(
        (
            op.qualified_type,
            tuple(graph.tensors[name].shape for name in op.outputs),
            tuple(sorted(weight.n_bytes for weight in graph.weights(op))),
            op.attributes.get("activation"),
        )
        for op in graph.operators
    )


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", NAMES)
def test_what_runs_is_predicted_at_full_width_and_for_a_batch(name: str, batch: int) -> None:
    """Groups of 12, 17 or 25 channels keep the plain layout, those of 24 or 40 do not, whatever the batch."""
    model = zoo.to_bytes(zoo.network(name, resolution=64), batch=batch)
    truth = optimized_by_runtime(model)
    assert _executed(optimize(read(model).graph, Cpu.here())) == _executed(truth)


@pytest.mark.parametrize("groups", COMPLEXITY)
def test_what_runs_of_a_random_relative_is_predicted_for_a_batch(groups: int) -> None:
    """Drawn groups have any number of channels, and at the least resolution maps of one pixel are shuffled."""
    drawn = (zoo.sample("shufflenet_v1", random.Random(seed)) for seed in range(1000))
    model = zoo.to_bytes(next(arch for arch in drawn if arch.resolution == 32 and _groups(arch) == groups), batch=4)
    truth = optimized_by_runtime(model)
    assert _executed(optimize(read(model).graph, Cpu.here())) == _executed(truth)


def _groups(arch: zoo.Architecture) -> int:
    return max((node.layer.groups for node in arch.nodes if isinstance(node.layer, ChannelShuffle)), default=1)


def test_a_grouped_convolution_is_blocked_where_groups_are_whole_blocks_on_both_sides() -> None:
    """The networks meet both cases of the runtime's rule, or the tests above would say little."""
    block = Cpu.here().nchwc_block
    met = set()
    for name in NAMES:
        graph = optimized_by_runtime(zoo.to_bytes(zoo.network(name, resolution=32), batch=4))
        for op in graph.operators:
            groups = op.attributes.get("group", 1)
            if not isinstance(groups, int) or groups == 1:
                continue
            out_channels, in_group, *_ = next(w.shape for w in graph.weights(op) if len(w.shape) == 4)
            if in_group > 1:
                is_whole = block > 1 and in_group % block == 0 == out_channels // groups % block
                assert (op.domain == "com.microsoft.nchwc") == is_whole, op.name
                met.add(is_whole)
    assert met == ({True, False} if block > 1 else {False})
