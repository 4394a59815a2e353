"""A written graph is cut into models whose inputs and outputs are what crosses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sectum.enclave.streaming.matching import ExecutedGraph
from sectum.enclave.streaming.stage_models import Cutter, Stage
from sectum.enclave.streaming.written_graph import WrittenGraph

WEIGHT = np.arange(32 * 48, dtype=np.float32).reshape(32, 48)
BIAS = np.arange(48, dtype=np.float32)
EXECUTED = ExecutedGraph(
    names=("first", "product", "skip", "last"),
    types=("Relu", "Gemm", "Neg", "Add"),
    reads=(("x",), ((0, 0), None, None), ((0, 0),), ((1, 0), (2, 0))),
    outputs=([("float32", (4, 32))], [("float32", (4, 48))], [("float32", (4, 32))], [("float32", (4, 48))]),
    packed=((), (1,), (), ()),
)


@pytest.fixture
def written(tmp_path: Path) -> WrittenGraph:
    """A product beside a connection that skips it."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="first"),
        helper.make_node("Gemm", ["a", "w", "b"], ["p"], name="product"),
        helper.make_node("Neg", ["a"], ["s"], name="skip"),
        helper.make_node("Add", ["p", "s"], ["y"], name="last"),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 48])],
        [numpy_helper.from_array(WEIGHT, "w"), numpy_helper.from_array(BIAS, "b")],
    )
    onnx.save(helper.make_model(graph), tmp_path / "written.onnx")
    return WrittenGraph(tmp_path / "written.onnx", None)


def whole(first: int, last: int) -> Stage:
    """A stage of whole operators."""
    return Stage(first, last, None, streamed=True)


def test_values_are_carried_to_their_last_reader(written: WrittenGraph) -> None:
    """A value that a later stage reads is an output, and an input there, and lives until the last of them."""
    cutter = Cutter(written, EXECUTED, [whole(0, 0), whole(1, 1), whole(2, 2), whole(3, 3)])
    crossing = [(model.inputs, model.outputs) for model in map(cutter.model, range(4))]
    assert crossing == [(("x",), ("a",)), (("a",), ("p",)), (("a",), ("s",)), (("p", "s"), ("y",))]
    assert cutter.last_read == {"x": 0, "a": 2, "w": 1, "b": 1, "p": 3, "s": 3, "y": 4}


def test_weights_that_a_kernel_packs_are_left_to_it(written: WrittenGraph) -> None:
    """Only weights that kernels read where they are, such as a bias, are placed beside what the kernels keep."""
    model = Cutter(written, EXECUTED, [whole(0, 3)]).model(0)
    assert set(model.weights) == {"b"}
    assert {tensor.name for tensor in onnx.ModelProto.FromString(model.model).graph.initializer} == {"w", "b"}


def test_a_divided_product_has_a_part_of_the_columns(written: WrittenGraph) -> None:
    """Each part has its columns of the weight and of the bias; the last part joins all of them in order."""
    parts = [Stage(1, 1, (0, 16), streamed=True), Stage(1, 1, (16, 48), streamed=True)]
    cutter = Cutter(written, EXECUTED, [whole(0, 0), *parts, whole(2, 3)])
    first, second = (onnx.ModelProto.FromString(cutter.model(number).model).graph for number in (1, 2))
    assert [node.op_type for node in first.node] == ["Gemm"]
    assert [node.op_type for node in second.node] == ["Gemm", "Concat"]
    values = [numpy_helper.to_array(tensor) for graph in (first, second) for tensor in graph.initializer]
    weights = [value for value in values if value.ndim == 2]
    assert np.array_equal(np.concatenate(weights, axis=1), WEIGHT)
    assert np.array_equal(np.concatenate([value for value in values if value.ndim == 1]), BIAS)
    assert list(second.node[1].input) == [first.output[0].name, second.node[0].output[0]]
    assert [value.name for value in second.output] == ["p"]


@pytest.mark.parametrize(
    "stages",
    [
        [whole(0, 2)],
        [whole(1, 3)],
        [whole(0, 1), whole(1, 3)],
        [whole(0, 4)],
        [whole(0, 0), Stage(1, 1, (0, 16), streamed=True), whole(2, 3)],
        [whole(0, 0), Stage(1, 1, (16, 48), streamed=True), whole(2, 3)],
        [whole(0, 2), Stage(3, 3, (0, 16), streamed=True), Stage(3, 3, (16, 48), streamed=True)],
    ],
)
def test_stages_that_do_not_cover_the_graph_are_refused(written: WrittenGraph, stages: list[Stage]) -> None:
    """Gaps, overlaps, missing parts, and parts of an operator that cannot be divided are refused."""

    def cut() -> None:
        cutter = Cutter(written, EXECUTED, stages)
        for number in range(len(stages)):
            cutter.model(number)

    with pytest.raises(ValueError, match=r"stage|divided"):
        cut()
