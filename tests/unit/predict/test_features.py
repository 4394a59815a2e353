"""Operators as numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from optimized_graphs import as_optimized
from sectum.graph.ir import Graph, Operator, Tensor, TensorKind
from sectum.lab.dataset.operator_campaign import describe, restore
from sectum.ort.cpu import Cpu
from sectum.ort.operators import KINDS
from sectum.ort.optimize import optimize
from sectum.predict.features import FEATURES, extract, schema_hash
from sectum.predict.operator_model import SHIPPED


def test_every_operator_has_a_row_and_a_group(squeezenet):
    """No operator is left out, and each belongs to a group that has a model."""
    runtime = optimize(squeezenet, Cpu.AVX2)
    features = extract(runtime, threads=2)
    assert features.values.shape == (len(runtime.operators), len(FEATURES))
    assert set(features.kinds) <= set(KINDS)
    assert np.isfinite(features.values).all()
    assert (features.roofline > 0).all()
    assert set(features.values[:, FEATURES.index("threads")]) == {2.0}


def test_an_output_that_is_left_out_does_not_matter():
    """A recurrent layer whose last state alone is read has features as any other."""
    shapes = {"x": (20, 1, 32), "w": (1, 256, 32), "r": (1, 256, 64), "h": (1, 1, 64)}
    kinds = {"x": TensorKind.INPUT, "h": TensorKind.ACTIVATION}
    tensors = {n: Tensor(n, shape, "float32", kinds.get(n, TensorKind.WEIGHT)) for n, shape in shapes.items()}
    op = Operator("lstm", "LSTM", ("x", "w", "r"), ("", "h"))
    features = extract(as_optimized(Graph("g", (op,), tensors, ("x",), ("h",), 17)), threads=1)
    assert np.isfinite(features.values).all()


def test_training_and_predicting_see_the_same_features(squeezenet, alexnet):
    """An operator stored by a campaign and read back has the features that it has within its network, but for one."""
    reuse = FEATURES.index("log_reuse_bytes")
    for graph in (squeezenet, alexnet):
        runtime = optimize(graph, Cpu.AVX2)
        whole = extract(runtime, threads=1)
        for index, op in enumerate(runtime.operators):
            alone = extract(restore(describe(op, runtime), Cpu.AVX2), threads=1, whole=False)
            assert alone.kinds[0] == whole.kinds[index]
            assert np.isnan(alone.values[0, reuse])
            own = np.delete(alone.values[0], reuse)
            np.testing.assert_array_equal(own, np.delete(whole.values[index], reuse))
            assert alone.roofline[0] == whole.roofline[index]


def test_what_was_written_long_ago_has_left_the_caches():
    """The second addend was written three operators before it is read: all that they moved lies between.

    The input of the network was written a whole inference ago.
    """
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
    graph = as_optimized(Graph("chain", operators, tensors, ("x",), ("y",), 17))
    reuse_bytes = np.expm1(extract(graph, threads=1).values[:, FEATURES.index("log_reuse_bytes")])
    np.testing.assert_allclose(reuse_bytes, [3 * 800 + 1200, 0, 0, 2 * 800], rtol=1e-5)


@pytest.mark.parametrize("cpu", SHIPPED)
def test_the_shipped_models_were_trained_with_these_features(cpu):
    """The schema hash in the shipped manifests is the one of the code beside them, and each is for its processors."""
    manifest = json.loads((SHIPPED[cpu] / "manifest.json").read_text())
    assert manifest["schema_sha256"] == schema_hash()
    assert manifest["nchwc_block"] == cpu.nchwc_block


def test_work_of_a_blocked_convolution_is_that_of_its_kernels():
    """64 channels of 56x56 pixels, 3x3 taps, AVX-512: one set of four blocks of filters, two edge outputs in a row."""
    tensors = {
        "x": Tensor("x", (1, 64, 56, 56), "float32", TensorKind.INPUT),
        "w": Tensor("w", (64, 64, 3, 3), "float32", TensorKind.WEIGHT),
        "y": Tensor("y", (1, 64, 56, 56), "float32", TensorKind.ACTIVATION),
    }
    op = Operator("c", "Conv", ("x", "w"), ("y",), {"kernel_shape": (3, 3), "strides": (1, 1)}, "com.microsoft.nchwc")
    features = extract(as_optimized(Graph("one", (op,), tensors, ("x",), ("y",), 17), Cpu.AVX512), threads=1)
    work = features.work[0]
    products = 56 * 56 * 64 * 64 * 9
    assert work[0] == products
    assert work[1] == 56 * 56 * 64 * 9 * 16  # of one block in each set
    assert not work[2:5].any()  # four blocks leave no rest
    assert work[5] == products * 2 / 56
    assert work[6] == 56 * 4  # kernels: a row, for each block of input channels
    assert (features.work >= 0).all()


@pytest.mark.parametrize(
    ("attributes", "weight", "expected"),
    [
        ({"kernel_shape": (15,)}, (64, 16, 15), (1, 15)),
        ({}, (64, 16, 15), (1, 15)),
        ({}, (64, 16, 5, 3), (5, 3)),
        ({"kernel_shape": (2, 5, 3)}, (64, 16, 2, 5, 3), (10, 3)),
    ],
)
def test_a_window_is_a_row_or_has_height_and_width_whether_it_is_stated_or_not(attributes, weight, expected):
    """A kernel of one dimension is one row; in one of three, slices lie in a column; weights tell what is unstated."""
    places = (32,) * (len(weight) - 2)
    tensors = {
        "x": Tensor("x", (1, 16, *places), "float32", TensorKind.INPUT),
        "w": Tensor("w", weight, "float32", TensorKind.WEIGHT),
        "y": Tensor("y", (1, 64, *places), "float32", TensorKind.ACTIVATION),
    }
    op = Operator("c", "Conv", ("x", "w"), ("y",), attributes)
    values = extract(as_optimized(Graph("one", (op,), tensors, ("x",), ("y",), 17), Cpu.AVX2), threads=1).values[0]
    assert (values[FEATURES.index("kernel_height")], values[FEATURES.index("kernel_width")]) == expected


@pytest.mark.parametrize("block", [1, 8, 16])
def test_all_operators_have_work(squeezenet, alexnet, block):
    """Whatever the processor, no operator is without work, and none of it is negative or not a number."""
    for graph in (squeezenet, alexnet):
        work = extract(optimize(graph, Cpu.of_block(block)), threads=1).work
        assert (work >= 0).all()
        assert (work.sum(axis=1) > 0).all()
