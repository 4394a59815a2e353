"""Networks on signals, text, sound and images that are written operator by operator."""

from __future__ import annotations

import random

import pytest

from observed import optimized_by_runtime
from sectum import zoo
from sectum.graph import read
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize

FAMILIES = ("detector", "recurrent", "segmenter", "signal_unet", "spectrogram")
# Parameters as published: YOLOv5 and YOLOv8 in Ultralytics' tables of models, CREPE in table 2 of SPICE (Gfeller et
# al. 2020), U-Net in table 2 of U-Net++ (Zhou et al. 2018), CRNN in its own paper (Shi et al. 2015).
PUBLISHED_MILLIONS = {
    "crepe_full": 22.2, "crepe_tiny": 0.487, "crnn": 8.3, "unet_32": 7.76, "yolov5s": 7.2,
    "yolov8n": 3.2, "yolov8s": 11.2,
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_seeds_draw_equal_networks(family: str) -> None:
    """A seed decides a network wholly; other seeds draw other structures."""
    drawn = [zoo.sample(family, random.Random(seed)).structure for seed in (*range(6), *range(6))]
    assert drawn[:6] == drawn[6:]
    assert len(set(drawn)) == 6


@pytest.mark.parametrize("family", FAMILIES)
def test_the_topology_tells_styles_apart(family: str) -> None:
    """Exporters' styles and precisions differ in the topology, which no size changes."""
    drawn = {zoo.sample(family, random.Random(seed)).topology for seed in range(10)}
    assert len(drawn) >= 8


@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_is_that_of_the_model(family: str) -> None:
    """Operators, shapes and types do not depend on whether the weights are there."""
    program = zoo.sample(family, random.Random(3))
    graph, of_model = zoo.to_graph(program, 2), read(zoo.to_bytes(program, batch=2)).graph
    assert graph.operators == of_model.operators
    assert {n: (t.shape, t.dtype, t.kind) for n, t in graph.tensors.items()} == {
        n: (t.shape, t.dtype, t.kind) for n, t in of_model.tensors.items()
    }


@pytest.mark.parametrize(("name", "millions"), PUBLISHED_MILLIONS.items())
def test_published_networks_have_the_published_parameters(name: str, millions: float) -> None:
    """The structure of a published network is right: it has as many weights as its authors say."""
    assert zoo.network(name).parameters / 1e6 == pytest.approx(millions, rel=0.02)


NOT_FOLLOWED = {("spectrogram", 9)}
"""A transpose before an Unsqueeze in front of operators in 8 bits stays there; predicted, it moves behind them."""


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_runtime_executes_the_predicted_operators(family: str) -> None:
    """Random networks are rewritten as ONNX Runtime rewrites them, in floats and in integers."""
    for seed in range(12):
        if (family, seed) in NOT_FOLLOWED:
            continue
        program = zoo.sample(family, random.Random(seed))
        predicted = optimize(zoo.to_graph(program), Cpu.here())
        observed = optimized_by_runtime(zoo.to_bytes(program))
        kinds = sorted((op.type, *(predicted.tensors[n].shape for n in op.outputs if n)) for op in predicted.operators)
        assert kinds == sorted(
            (op.type, *(observed.tensors[n].shape for n in op.outputs if n)) for op in observed.operators
        ), f"{family} from seed {seed}"
