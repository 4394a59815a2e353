"""Layers go by the names of the model's own operators."""

from __future__ import annotations

from collections import Counter

import pytest
from sectum.ort.provenance import origins

from places import LIGHT
from sectum import zoo
from sectum.cli.predict.predicting import Request, predict
from sectum.cli.render.layers import kind
from sectum.graph import read
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize

NETWORKS = ["resnet18", "densenet121", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "shufflenet_v2_x0_5"]
FILES = ["light_inception_v2.onnx", "light_resnet50.onnx", "light_shufflenet.onnx"]


def graph_of(name: str):
    return read(LIGHT / name).graph if name in FILES else zoo.to_graph(zoo.build(name), 1)


@pytest.mark.parametrize("block", [1, 8, 16])
@pytest.mark.parametrize("name", NETWORKS + FILES)
def test_every_operator_of_the_model_is_behind_exactly_one_layer(name, block):
    """No operator of the model is lost or counted twice, whatever the runtime fuses and in whatever layout."""
    model = graph_of(name)
    found = origins(model, optimize(model, Cpu.of_block(block)))
    carried_out = Counter(kind for origin in found for kind in origin.types)
    assert carried_out == Counter(op.type for op in model.operators if not model.is_constant(op))


@pytest.mark.parametrize("name", NETWORKS + FILES)
def test_every_name_is_one_of_the_model(name):
    """People never read a name that the runtime made up."""
    model = graph_of(name)
    known = {op.name for op in model.operators} | set(model.inputs)
    assert {origin.name for origin in origins(model, optimize(model, Cpu.AVX2))} <= known


def test_a_fused_convolution_is_named_as_the_convolution_and_lists_what_it_took_in():
    """What is fused into a convolution belongs to it, the sum of a residual block and its activation too."""
    model = graph_of("resnet18")
    found = {origin.name: origin.types for origin in origins(model, optimize(model, Cpu.AVX2))}
    assert found["stem.conv"] == ("Conv", "BatchNormalization", "Relu")
    assert found["stage1.block0.conv_1"] == ("Conv", "BatchNormalization", "Add", "Relu")
    assert found["head.linear"] == ("Gemm",)


def test_a_conversion_between_layouts_carries_out_nothing_of_the_model():
    """What the runtime adds goes by the operator whose result it converts, and claims none of the model's work."""
    model = graph_of("resnet18")
    runtime = optimize(model, Cpu.AVX2)
    pairs = zip(runtime.operators, origins(model, runtime), strict=True)
    added = [origin for op, origin in pairs if op.type == "ReorderOutput"]
    assert [(origin.name, origin.types) for origin in added] == [("head.globalaveragepool", ())]


def test_layers_of_a_prediction_bear_the_names_of_the_model():
    """The prediction that people see speaks of their operators; replacements of many go by the runtime's name."""
    request = Request(
        model="zoo:convnext_tiny", enclave="softepc", epc_bytes=None, batch=None, inputs={}, threads=1,
        native_ms=None, strict=False,
    )  # fmt: skip
    layers = predict(request).prediction.layers
    kinds = {kind(layer) for layer in layers}
    assert {"MatMul + Add", "Gelu", "LayerNormalization", "ReorderInput, by the runtime"} <= kinds
    assert not any("nchwc" in layer.name or "~" in layer.name for layer in layers)
