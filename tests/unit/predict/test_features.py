"""Operators as numbers."""

from __future__ import annotations

import json

import numpy as np

from sectum.graph.ir import Graph, Operator, Tensor, TensorKind
from sectum.graph.runtime import runtime_graph
from sectum.measure.operator_campaign import describe, restore
from sectum.predict.features import FEATURES, GROUPS, extract, schema_hash
from sectum.predict.operator_model import SHIPPED


def test_every_operator_has_a_row_and_a_group(squeezenet):
    """No operator is left out, and each belongs to a group that has a model."""
    runtime = runtime_graph(squeezenet)
    features = extract(runtime, threads=2)
    assert features.values.shape == (len(runtime.operators), len(FEATURES))
    assert set(features.groups) <= set(GROUPS)
    assert np.isfinite(features.values).all()
    assert (features.roofline > 0).all()
    assert set(features.values[:, FEATURES.index("threads")]) == {2.0}


def test_training_and_predicting_see_the_same_features(squeezenet, alexnet):
    """An operator stored by a campaign and read back has the features that it has within its network, but for these."""
    neighbours = [FEATURES.index(name) for name in ("log_reuse_bytes", "log_network_bytes")]
    for graph in (squeezenet, alexnet):
        runtime = runtime_graph(graph)
        whole = extract(runtime, threads=1)
        for index, op in enumerate(runtime.operators):
            alone = extract(restore(describe(op, runtime)), threads=1, whole=False)
            assert alone.groups[0] == whole.groups[index]
            assert np.isnan(alone.values[0, neighbours]).all()
            own = np.delete(alone.values[0], neighbours)
            np.testing.assert_array_equal(own, np.delete(whole.values[index], neighbours))
            assert alone.roofline[0] == whole.roofline[index]


def test_what_was_written_long_ago_has_left_the_caches():
    """The second addend was written three operators before it is read: all that they moved lies between."""
    names = ("x", "a", "b", "c", "y")
    tensors = {
        name: Tensor(name, (1, 100), "float32", TensorKind.INPUT if name == "x" else TensorKind.ACTIVATION)
        for name in names
    }
    steps = [(("x",), "a"), (("a",), "b"), (("b",), "c"), (("c", "a"), "y")]
    operators = tuple(
        Operator(f"n{i}", "Add" if len(inputs) == 2 else "Relu", inputs, (output,))
        for i, (inputs, output) in enumerate(steps)
    )
    graph = Graph("chain", operators, tensors, ("x",), ("y",), 17)
    reuse_bytes = np.expm1(extract(graph, threads=1).values[:, FEATURES.index("log_reuse_bytes")])
    np.testing.assert_allclose(reuse_bytes, [0, 0, 0, 2 * 800], rtol=1e-5)


def test_the_shipped_models_were_trained_with_these_features():
    """The schema hash in the shipped manifest is the one of the code beside it."""
    manifest = json.loads((SHIPPED / "manifest.json").read_text())
    assert manifest["schema_sha256"] == schema_hash()
