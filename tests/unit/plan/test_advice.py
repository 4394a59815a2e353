"""Advice is computed: what it promises holds when it is tried."""

from __future__ import annotations

import pytest

from sectum.graph import read
from sectum.plan.advice import advise
from sectum.predict import sweep
from sectum.units import MIB, PAGE_BYTES


@pytest.fixture(scope="module")
def read_squeezenet(light):
    return lambda batch: read(light / "light_squeezenet.onnx", batch=batch).graph


def by_kind(advice):
    return {item.kind: item for item in advice}


def test_the_advised_epc_is_the_smallest_that_ends_paging(predictor, alexnet, softepc):
    """At the advised size there is no paging, one page below there is."""
    enclave = softepc.with_epc(93 * MIB)
    prediction = predictor.predict(alexnet, enclave)
    advised = by_kind(advise(predictor, lambda _: alexnet, prediction, enclave))["epc"].values["epc_bytes"]
    enough, short = sweep(predictor, alexnet, enclave, [advised, advised - PAGE_BYTES])
    assert not enough.overcommit.predicted
    assert short.overcommit.predicted


def test_the_advised_batch_is_the_largest_that_fits(predictor, softepc, read_squeezenet):
    """The advised batch does not page, the next one does."""
    enclave = softepc.with_epc(32 * MIB)
    prediction = predictor.predict(read_squeezenet(1), enclave)
    batch = by_kind(advise(predictor, read_squeezenet, prediction, enclave))["batch"].values["batch"]
    assert batch > 1
    assert not predictor.predict(read_squeezenet(batch), enclave).overcommit.predicted
    assert predictor.predict(read_squeezenet(batch + 1), enclave).overcommit.predicted


def test_a_model_too_large_for_any_batch_is_told_so(predictor, alexnet, softepc):
    """Where not even one image fits, the advice says so in place of a number."""
    enclave = softepc.with_epc(93 * MIB)
    prediction = predictor.predict(alexnet, enclave)
    item = by_kind(advise(predictor, lambda _: alexnet, prediction, enclave))["batch"]
    assert item.values["batch"] == 0


def test_the_costliest_layers_are_named_with_their_share(predictor, alexnet, softepc):
    """The layers named are those with the largest latency, in order."""
    enclave = softepc.with_epc(93 * MIB)
    prediction = predictor.predict(alexnet, enclave)
    named = by_kind(advise(predictor, lambda _: alexnet, prediction, enclave))["layers"].values["layers"]
    ranked = sorted(prediction.layers, key=lambda layer: -layer.breakdown_ms.total)
    assert [layer["name"] for layer in named] == [layer.name for layer in ranked[: len(named)]]


def test_layers_that_would_make_it_fit_hold_enough_weights(predictor, alexnet, softepc):
    """The weights named are at least as large as what is missing."""
    enclave = softepc.with_epc(93 * MIB)
    prediction = predictor.predict(alexnet, enclave)
    item = by_kind(advise(predictor, lambda _: alexnet, prediction, enclave))["weights"]
    assert sum(layer["weight_bytes"] for layer in item.values["layers"]) >= -prediction.memory.margin_bytes
