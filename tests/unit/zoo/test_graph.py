"""A graph made without weights is the one that reading the emitted model gives."""

from __future__ import annotations

import random

import numpy as np
import pytest

from sectum import zoo
from sectum.errors import UsageError
from sectum.graph import read
from sectum.graph.ir import Graph
from sectum.zoo import Architecture


def _assert_same(ours: Graph, theirs: Graph) -> None:
    assert (ours.name, ours.opset) == (theirs.name, theirs.opset)
    assert (ours.inputs, ours.outputs) == (theirs.inputs, theirs.outputs)
    assert ours.operators == theirs.operators
    assert dict(ours.tensors) == dict(theirs.tensors)
    for name, tensor in theirs.tensors.items():
        if tensor.dtype == "int64":
            np.testing.assert_array_equal(ours.tensors[name].value, tensor.value)


def _small(name: str) -> Architecture:
    return zoo.network(name, resolution=96, width=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.names())
def test_the_graph_of_a_network_is_that_of_its_file(name: str) -> None:
    """For every network the graph made directly equals the graph read from its emitted file."""
    arch = _small(name)
    _assert_same(zoo.to_graph(arch), read(zoo.to_bytes(arch), batch=1).graph)


@pytest.mark.parametrize("family", zoo.families())
def test_the_graph_of_a_random_relative_is_that_of_its_file(family: str) -> None:
    """For a random network of every family the graph made directly equals the graph read from its file."""
    arch = zoo.sample(family, random.Random(11))
    _assert_same(zoo.to_graph(arch, 4), read(zoo.to_bytes(arch), batch=4).graph)


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_the_graph_of_a_folded_network_is_that_of_its_file(name: str) -> None:
    """With batch normalisation folded, the graph made directly equals the graph read from the file."""
    arch = _small(name)
    file = zoo.to_bytes(arch, batch=2, fold_batch_norm=True)
    _assert_same(zoo.to_graph(arch, 2, fold_batch_norm=True), read(file).graph)


def test_weight_bytes_are_four_for_each_parameter_without_batch_normalisation() -> None:
    """VGG-19 has four bytes of weights for each of its published parameters."""
    arch = zoo.network("vgg19")
    assert zoo.to_graph(arch).weight_bytes == 4 * arch.parameters == 574_668_960


def test_a_batch_below_one_is_refused() -> None:
    """A batch of zero is a usage error."""
    with pytest.raises(UsageError, match="batch 0"):
        zoo.to_graph(zoo.network("resnet18"), 0)
