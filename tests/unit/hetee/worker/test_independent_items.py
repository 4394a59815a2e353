"""Which models compute each item of a batch by itself: what the rule says, and what ONNX Runtime computes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as states

from sectum import zoo
from sectum.hetee.worker.independent_items import why_mixed

OPSET = 17
ITEMS, REST = 6, (4, 8, 8)
Node = tuple[str, Sequence[str], dict[str, Any]]

CONSTANTS: dict[str, Any] = {
    "w": np.random.default_rng(1).standard_normal((4, 4, 3, 3)).astype(np.float32),
    "c": np.arange(4, dtype=np.float32) + 1,
    "m": np.random.default_rng(2).standard_normal((8, 5)).astype(np.float32),
    "g": np.random.default_rng(3).standard_normal((256, 3)).astype(np.float32),
    "rows": np.array([0, -1], np.int64),
    "flat": np.array([-1, 256], np.int64),
    "mixed": np.array([4, -1], np.int64),
    "heads": np.array([0, 2, 2, 64], np.int64),
    "zero": np.array([0], np.int64),
    "one": np.array([1], np.int64),
    "two": np.array([2], np.int64),
    "around": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    "more": np.array([1, 0, 0, 0, 0, 0, 0, 0], np.int64),
    "all": np.array([0, -1, -1, -1], np.int64),
    "token": np.ones((1, 4, 8, 8), np.float32),
    "first": np.array(0, np.int64),
    "second": np.array(1, np.int64),
}
# The last node makes y; others are named by their order.
ALONE: dict[str, list[Node]] = {
    "convolution": [("Conv", ["x", "w"], {"pads": [1] * 4})],
    "normalisation": [("BatchNormalization", ["x", "c", "c", "c", "c"], {})],
    "pool": [("MaxPool", ["x"], {"kernel_shape": [2, 2]})],
    "mean of an image": [("ReduceMean", ["x"], {"axes": [2, 3]})],
    "softmax of channels": [("Softmax", ["x"], {"axis": 1})],
    "sum with itself": [("Add", ["x", "x"], {})],
    "flatten and multiply": [("Flatten", ["x"], {}), ("Gemm", ["0", "g"], {})],
    "product with a matrix": [("MatMul", ["x", "m"], {})],
    "product with itself": [("MatMul", ["x", "x"], {})],
    "reshape to rows": [("Reshape", ["x", "flat"], {})],
    "reshape that keeps the first": [("Reshape", ["x", "rows"], {})],
    "heads": [("Reshape", ["x", "heads"], {}), ("Transpose", ["0"], {"perm": [0, 2, 1, 3]})],
    "reshape by the shape": [
        ("Shape", ["x"], {}),
        ("Gather", ["0", "zero"], {}),
        ("Concat", ["1", "flat_end"], {"axis": 0}),
        ("Reshape", ["x", "2"], {}),
    ],
    "channels joined": [("Concat", ["x", "x"], {"axis": 1})],
    "slice of an image": [("Slice", ["x", "one", "two", "two"], {})],
    "pad of an image": [("Pad", ["x", "around"], {})],
    "a token in front": [
        ("Shape", ["x"], {}),
        ("Expand", ["token", "0"], {}),
        ("Concat", ["1", "x"], {"axis": 1}),
    ],
    "its own width as a factor": [
        ("Shape", ["x"], {}),
        ("Gather", ["0", "second"], {}),
        ("Cast", ["1"], {"to": TensorProto.FLOAT}),
        ("Mul", ["x", "2"], {}),
    ],
}
TOGETHER: dict[str, list[Node]] = {
    "mean of the batch": [("ReduceMean", ["x"], {"axes": [0]}), ("Sub", ["x", "0"], {})],
    "softmax over the batch": [("Softmax", ["x"], {"axis": 0})],
    "softmax over the batch, from the end": [("Softmax", ["x"], {"axis": -4})],
    "reverse": [("Slice", ["x", "minus", "least", "zero", "minus"], {})],
    "running sum": [("CumSum", ["x", "first"], {})],
    "the first for all": [("Gather", ["x", "zero"], {"axis": 0}), ("Add", ["x", "0"], {})],
    "reshape across items": [
        ("Reshape", ["x", "mixed"], {}),
        ("Softmax", ["0"], {"axis": 1}),
        ("Reshape", ["1", "flat"], {}),
    ],
    "the number of items as a factor": [
        ("Shape", ["x"], {}),
        ("Gather", ["0", "first"], {}),
        ("Cast", ["1"], {"to": TensorProto.FLOAT}),
        ("Mul", ["x", "2"], {}),
    ],
    "normalisation over the batch": [
        ("Transpose", ["x"], {"perm": [1, 0, 2, 3]}),
        ("InstanceNormalization", ["0", "six", "six"], {}),
        ("Transpose", ["1"], {"perm": [1, 0, 2, 3]}),
    ],
}
MORE = {
    "flat_end": np.array([256], np.int64),
    "minus": np.array([-1], np.int64),
    "least": np.array([-(1 << 31)], np.int64),
    "six": np.ones(ITEMS, np.float32),
    "single": np.array([1, 256], np.int64),
}


def model(nodes: list[Node], first: int | str = "N") -> bytes:
    """A model of these nodes; input ``x`` [first, 4, 8, 8], output ``y``."""
    held = CONSTANTS | MORE
    made, used = [], set()
    for number, (kind, inputs, attributes) in enumerate(nodes):
        name = "y" if number == len(nodes) - 1 else str(number)
        used |= set(inputs) & set(held)
        made.append(helper.make_node(kind, list(inputs), [name], **attributes))
    stored = [numpy_helper.from_array(np.asarray(held[name]), name) for name in sorted(used)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [first, *REST])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(made, "items", [x], [y], stored)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return bytes(proto.SerializeToString())


def in_parts(content: bytes, *counts: int, rest: tuple[int, ...] = REST) -> np.ndarray:
    """The output for a batch that is computed in parts of so many items."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(4).standard_normal((ITEMS, *rest)).astype(np.float32)
    parts = np.split(x, np.cumsum(counts)[:-1])
    return np.concatenate([session.run(None, {session.get_inputs()[0].name: part})[0] for part in parts])


@pytest.mark.parametrize("name", ALONE)
def test_items_that_are_computed_alone_can_be_split(name: str) -> None:
    """The rule allows it, and the outputs of parts are those of the whole batch."""
    content = model(ALONE[name])
    assert why_mixed(content, {"x": (ITEMS, *REST)}) is None
    np.testing.assert_allclose(in_parts(content, 1, 3, 2), in_parts(content, ITEMS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TOGETHER)
def test_items_that_are_mixed_cannot_be_split(name: str) -> None:
    """The rule refuses it, although inputs and outputs have the items first: the outputs of parts would be others."""
    content = model(TOGETHER[name])
    whole = in_parts(content, ITEMS)
    assert len(whole) == ITEMS
    with suppress(states.RuntimeException, states.InvalidArgument):  # parts need not even be computed
        assert not np.allclose(in_parts(content, 1, 3, 2), whole, rtol=1e-3)
    why = why_mixed(content, {"x": (ITEMS, *REST)})
    assert why is not None
    assert "item" in why


def test_an_unknown_operator_counts_as_mixing() -> None:
    """What the rule does not know is refused by name."""
    why = why_mixed(model([("Einsum", ["x"], {"equation": "nchw->nchw"})]), {"x": (ITEMS, *REST)})
    assert why == "the operator Einsum 'y' may mix the items of a batch"


def test_a_number_of_items_in_a_constant_cannot_be_split() -> None:
    """Exporters may leave a batch of one in a shape although the input's is open; no run changes that."""
    why = why_mixed(model([("Reshape", ["x", "single"], {})]), {"x": (ITEMS, *REST)})
    assert why == "it has the number of items in a constant"


def test_a_model_that_is_not_understood_cannot_be_split() -> None:
    """Attributes of a wrong type end in a refusal, not in an error."""
    nodes: list[Node] = [("Softmax", ["x"], {"axis": "first"})]
    assert why_mixed(model(nodes), {"x": (ITEMS, *REST)}) is not None


def test_random_numbers_cannot_be_split() -> None:
    """Numbers that are drawn differ from run to run."""
    nodes: list[Node] = [("RandomUniform", [], {"shape": [8]}), ("Add", ["x", "0"], {})]
    assert "draws" in str(why_mixed(model(nodes), {"x": (ITEMS, *REST)}))


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5", "mobilenet_v2", "googlenet"])
def test_networks_of_the_zoo_can_be_split(name: str) -> None:
    """The rule knows what published networks consist of, and the outputs of parts are those of the whole batch."""
    content = zoo.to_bytes(zoo.network(name, resolution=64))
    assert why_mixed(content, {"input": (2, 3, 64, 64)}) is None
    whole = in_parts(content, ITEMS, rest=(3, 64, 64))
    parts = in_parts(content, 1, 3, 2, rest=(3, 64, 64))
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-4 * np.abs(whole).max())
