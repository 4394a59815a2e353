"""Advice is computed: what it promises holds when it is tried."""

from __future__ import annotations

from collections import Counter

import pytest
from onnx import TensorProto, helper

from sectum.enclave import profile
from sectum.graph import parse
from sectum.plan.advice import advise
from sectum.predict import sweep
from sectum.units import MIB, PAGE_BYTES


@pytest.fixture(scope="module")
def squeezenet_at(light):
    parsed = parse(light / "light_squeezenet.onnx")
    return lambda batch: parsed.bind(batch=batch).graph


def advice_for(predictor, graph, enclave, at_batch=None, **options):
    """Prediction, and the advice that goes with it by its kind."""
    prepared = predictor.prepare(graph, **options)
    prediction = predictor.in_enclave(prepared, enclave)
    items = advise(predictor, prepared, prediction, enclave, at_batch or (lambda _: graph))
    return prediction, {item.kind: item.values for item in items}


def test_the_advised_epc_is_the_smallest_that_ends_paging(predictor, alexnet, softepc):
    """At the advised size there is no paging, one page below there is."""
    enclave = softepc.with_epc(93 * MIB)
    _, advice = advice_for(predictor, alexnet, enclave)
    advised = advice["epc"]["epc_bytes"]
    enough, short = sweep(predictor, alexnet, enclave, [advised, advised - PAGE_BYTES])
    assert not enough.overcommit.predicted
    assert short.overcommit.predicted


@pytest.mark.parametrize("native_ms", [None, 20.0])
def test_the_latency_at_the_advised_epc_is_the_prediction_there(predictor, alexnet, softepc, native_ms):
    """What the advice promises of more memory is to the last bit what a prediction with that memory says."""
    enclave = softepc.with_epc(93 * MIB)
    prediction, advice = advice_for(predictor, alexnet, enclave, native_ms=native_ms)
    there = predictor.predict(alexnet, enclave.with_epc(advice["epc"]["epc_bytes"]), native_ms=native_ms)
    assert advice["epc"]["latency_ms"] == there.latency_ms
    assert advice["epc"]["speedup"] == prediction.latency_ms / there.latency_ms


@pytest.mark.parametrize("own", [1, 3])
def test_the_advised_batch_is_the_largest_that_fits(predictor, softepc, squeezenet_at, own):
    """The advised batch does not page, the next one does, and an image takes what a prediction says."""
    enclave = softepc.with_epc(32 * MIB)
    _, advice = advice_for(predictor, squeezenet_at(own), enclave, squeezenet_at)
    batch = advice["batch"]["batch"]
    assert batch > 1
    there = predictor.predict(squeezenet_at(batch), enclave)
    assert not there.overcommit.predicted
    assert predictor.predict(squeezenet_at(batch + 1), enclave).overcommit.predicted
    assert advice["batch"]["ms_per_sample"] == there.latency_ms / batch
    assert advice["batch"]["sample"] == "image"


@pytest.mark.parametrize(
    ("shape", "word"),
    [
        ((2, 3, 8, 8), "image"),
        ((2, 8, 8, 3), "image"),
        ((2, 1, 8, 8), "image"),
        ((2, 64, 8, 8), "sample"),
        ((2, 16000), "sample"),
        ((2, 3, 7500), "sample"),
    ],
)
def test_only_images_are_called_images(predictor, softepc, shape, word):
    """A sample is an image where the input has the shape of one; text and audio are samples."""
    node = helper.make_node("Relu", ["x"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape[1:]]) for name in ("x", "y")]
    content = helper.make_model(helper.make_graph([node], "relu", values[:1], values[1:])).SerializeToString()
    parsed = parse(content)
    graphs = {batch: parsed.bind(batch=batch).graph for batch in range(1, 65)}
    _, advice = advice_for(predictor, graphs[2], softepc, graphs.__getitem__)
    assert advice["batch"]["sample"] == word


def test_the_advice_on_memory_says_what_computing_and_memory_add(predictor, alexnet):
    """In hardware an inference that does not page is still slower, by computing and by slower memory: both are told."""
    sgx1 = profile.load("sgx1")
    prediction, advice = advice_for(predictor, alexnet, sgx1, native_ms=20.0)
    there = predictor.predict(alexnet, sgx1.with_epc(advice["epc"]["epc_bytes"]), native_ms=20.0)
    assert advice["epc"]["native_ms"] == prediction.native_ms
    assert advice["epc"]["compute_ms"] == there.breakdown_ms.compute
    rest_ms = advice["epc"]["latency_ms"] - advice["epc"]["compute_ms"]
    assert rest_ms == pytest.approx(there.breakdown_ms.memory + there.breakdown_ms.paging)
    assert there.breakdown_ms.memory > 1


def test_no_batch_is_traced_twice(predictor, softepc, squeezenet_at, monkeypatch):
    """Each batch that is tried is re-batched and traced once, the model's own never, and no layers are computed."""
    enclave = softepc.with_epc(32 * MIB)
    prepared = predictor.prepare(squeezenet_at(2))
    prediction = predictor.in_enclave(prepared, enclave)
    tried, traced = Counter(), Counter()
    trace = predictor.trace

    def at_batch(batch):
        tried[batch] += 1
        return squeezenet_at(batch)

    def counting_trace(graph, *, threads):
        traced[graph.tensors[graph.inputs[0]].shape[0]] += 1
        return trace(graph, threads=threads)

    monkeypatch.setattr(predictor, "trace", counting_trace)
    monkeypatch.setattr(predictor, "in_enclave", None)
    advise(predictor, prepared, prediction, enclave, at_batch)
    assert tried == traced
    assert set(tried.values()) == {1}
    assert 2 not in tried


def test_a_model_too_large_for_any_batch_is_told_so(predictor, alexnet, softepc):
    """Where not even one image fits, the advice says so in place of a number."""
    _, advice = advice_for(predictor, alexnet, softepc.with_epc(93 * MIB))
    assert advice["batch"]["batch"] == 0


def test_the_costliest_layers_are_named_with_their_share(predictor, alexnet, softepc):
    """The layers named are those with the largest latency, in order."""
    prediction, advice = advice_for(predictor, alexnet, softepc.with_epc(93 * MIB))
    ranked = sorted(prediction.layers, key=lambda layer: -layer.breakdown_ms.total)
    named = advice["layers"]["layers"]
    assert [layer["name"] for layer in named] == [layer.name for layer in ranked[: len(named)]]


def test_layers_that_would_make_it_fit_hold_enough_weights(predictor, alexnet, softepc):
    """The weights named are at least as large as what is missing."""
    prediction, advice = advice_for(predictor, alexnet, softepc.with_epc(93 * MIB))
    assert sum(layer["weight_bytes"] for layer in advice["weights"]["layers"]) >= -prediction.memory.margin_bytes
