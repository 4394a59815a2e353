"""The optimized graph records which source operators each of its operators carries out."""

from __future__ import annotations

import pytest

from places import LIGHT
from sectum import zoo
from sectum.cli.render.layers import kind
from sectum.enclave import profile
from sectum.graph import Graph, read
from sectum.ort import Cpu, OptimizedGraph, optimize
from sectum.predict import load_predictor

NETWORKS = ["resnet18", "densenet121", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "shufflenet_v2_x0_5"]
FILES = ["light_inception_v2.onnx", "light_resnet50.onnx", "light_shufflenet.onnx"]
COMPOSED = {"HardSwish", "Mish"}
"""ONNX defines them by other operators, and the runtime executes those: several operators carry one out."""


def graph_of(name: str) -> Graph:
    return read(LIGHT / name).graph if name in FILES else zoo.to_graph(zoo.network(name), 1)


def by_name(optimized: OptimizedGraph) -> dict[str, tuple[str, ...]]:
    pairs = zip(optimized.layer_names, optimized.carried_out, strict=True)
    return {name: tuple(op.type for op in sources) for name, sources in pairs if sources}


@pytest.mark.parametrize("cpu", Cpu)
@pytest.mark.parametrize("name", NETWORKS + FILES)
def test_every_source_operator_is_carried_out_by_exactly_one_operator(name, cpu):
    """No source operator is lost or counted twice, whatever the runtime fuses and in whatever layout."""
    source = graph_of(name)
    carried_out = [op.name for sources in optimize(source, cpu).carried_out for op in sources]
    once = [op.name for op in source.operators if not source.is_constant(op) and op.type not in COMPOSED]
    composed = {op.name for op in source.operators if op.type in COMPOSED}
    assert sorted(name for name in carried_out if name not in composed) == sorted(once)
    assert composed <= set(carried_out)


@pytest.mark.parametrize("name", NETWORKS + FILES)
def test_every_name_is_one_of_the_source(name):
    """People never read a name that the runtime made up."""
    source = graph_of(name)
    known = {op.name for op in source.operators} | set(source.inputs)
    assert set(optimize(source, Cpu.AVX2).layer_names) <= known


def test_a_fused_convolution_is_named_as_the_convolution_and_lists_what_it_took_in():
    """What is fused into a convolution belongs to it, the sum of a residual block and its activation too."""
    found = by_name(optimize(graph_of("resnet18"), Cpu.AVX2))
    assert found["stem.conv"] == ("Conv", "BatchNormalization", "Relu")
    assert found["stage1.block0.conv_1"] == ("Conv", "BatchNormalization", "Add", "Relu")
    assert found["head.linear"] == ("Gemm",)


def test_a_conversion_between_layouts_carries_out_nothing():
    """What the runtime adds goes by the operator whose result it converts, and claims no source operator."""
    optimized = optimize(graph_of("resnet18"), Cpu.AVX2)
    added = [
        (optimized.layer_names[index], optimized.carried_out[index])
        for index, op in enumerate(optimized.operators)
        if op.type == "ReorderOutput"
    ]
    assert added == [("head.globalaveragepool", ())]


def test_layers_of_a_prediction_bear_the_names_of_the_source():
    """A prediction from Python speaks of the model's operators; a replacement of many goes by the runtime's name."""
    layers = load_predictor().predict(graph_of("convnext_tiny"), profile.load("softepc")).layers
    kinds = {kind(layer) for layer in layers}
    assert {"MatMul + Add", "Gelu", "LayerNormalization", "ReorderInput (added by the runtime)"} <= kinds
    assert not any("nchwc" in layer.name or "~" in layer.name for layer in layers)
