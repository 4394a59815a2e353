"""Small ONNX models with static shapes, each for one purpose, made in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_OPSET = 17


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
) -> bytes:
    graph = helper.make_graph(list(nodes), "tiny", list(inputs), list(outputs), list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def _float(name: str, *shape: int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def convolutions() -> bytes:
    """Make two convolutions with ReLU and a dense layer; input ``x`` [1, 8, 32, 32] (NCHW), output ``y``."""
    rng = np.random.default_rng(1)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((rng.random(shape, np.float32) - 0.5) / 4, name)

    return _model(
        [
            helper.make_node("Conv", ["x", "w1"], ["a"], name="conv1", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["b"], name="relu1"),
            helper.make_node("Conv", ["b", "w2"], ["c"], name="conv2", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["d"], name="relu2"),
            helper.make_node("GlobalAveragePool", ["d"], ["e"], name="pool"),
            helper.make_node("Flatten", ["e"], ["f"], name="flatten"),
            helper.make_node("Gemm", ["f", "w3"], ["y"], name="fc"),
        ],
        [_float("x", 1, 8, 32, 32)],
        [_float("y", 1, 10)],
        [weight("w1", 32, 8, 3, 3), weight("w2", 64, 32, 3, 3), weight("w3", 64, 10)],
    )


def matrix_chain(layers: int, size: int) -> bytes:
    """Make ``layers`` products, each with its own ``size`` x ``size`` float32 weights; input ``x`` [1, size].

    Every weight is read once in an inference and none is reused: the pattern that pages most.
    """
    rng = np.random.default_rng(2)
    block = (rng.random((size, size), np.float32) - 0.5) / size**0.5
    names = ["x", *(f"h{i}" for i in range(1, layers)), "y"]
    return _model(
        [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]], name=f"product{i}") for i in range(layers)],
        [_float("x", 1, size)],
        [_float("y", 1, size)],
        [numpy_helper.from_array(np.roll(block, i, axis=1), f"w{i}") for i in range(layers)],
    )


def large_activation(mebibytes: int = 1024) -> bytes:
    """Make a model of a few bytes whose output ``y`` takes ``mebibytes`` MiB; input ``x`` [1, 1]."""
    rows = mebibytes << 8  # of 1024 float32 each: 4 KiB
    return _model(
        [
            helper.make_node("Expand", ["x", "shape"], ["wide"], name="expand"),
            helper.make_node("Exp", ["wide"], ["y"], name="exp"),
        ],
        [_float("x", 1, 1)],
        [_float("y", rows, 1024)],
        [numpy_helper.from_array(np.array([rows, 1024], np.int64), "shape")],
    )


def endless_loop() -> bytes:
    """Make a loop of 2**62 rounds; input ``x`` [1], output ``y`` [1]."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["go_on_out"]),
            helper.make_node("Cos", ["state"], ["state_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            _float("state", 1),
        ],
        [helper.make_tensor_value_info("go_on_out", TensorProto.BOOL, []), _float("state_out", 1)],
    )
    return _model(
        [helper.make_node("Loop", ["rounds", "yes", "x"], ["y"], body=body, name="loop")],
        [_float("x", 1)],
        [_float("y", 1)],
        [
            numpy_helper.from_array(np.array(1 << 62, np.int64), "rounds"),
            numpy_helper.from_array(np.array(True), "yes"),
        ],
    )
