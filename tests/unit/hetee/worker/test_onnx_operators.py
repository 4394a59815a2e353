"""Operators of ONNX models that are trained compute what ONNX Runtime computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from sectum.hetee.errors import WorkRefused

pytestmark = pytest.mark.slow

torch = pytest.importorskip("torch", reason="PyTorch is an extra")

RNG = np.random.default_rng(3)
PICTURE = (2, 4, 9, 8)


def floats(*shape: int) -> np.ndarray:
    return RNG.uniform(0.3, 1.5, shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


# Operator, shape of its first input, further inputs, attributes.
CASES: list[tuple[str, tuple[int, ...], list[np.ndarray], dict[str, Any]]] = [
    ("Add", PICTURE, [floats(4, 1, 1)], {}),
    ("AveragePool", PICTURE, [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("AveragePool", PICTURE, [], {"kernel_shape": [2, 2], "count_include_pad": 1, "pads": [1, 1, 1, 1]}),
    ("BatchNormalization", PICTURE, [floats(4) for _ in range(4)], {"epsilon": 1e-3}),
    ("Clip", PICTURE, [np.float32(0.5), np.float32(1)], {}),
    ("Concat", PICTURE, [floats(2, 3, 9, 8)], {"axis": 1}),
    ("Conv", PICTURE, [floats(6, 4, 3, 3), floats(6)], {"strides": [2, 1], "pads": [1, 1, 1, 1]}),
    ("Conv", PICTURE, [floats(6, 2, 3, 3)], {"group": 2, "pads": [0, 1, 2, 1]}),
    ("Conv", (2, 4, 9), [floats(6, 4, 3)], {"dilations": [2]}),
    ("Div", PICTURE, [floats(4, 1, 1)], {}),
    ("Dropout", PICTURE, [], {}),
    ("Erf", PICTURE, [], {}),
    ("Exp", PICTURE, [], {}),
    ("Flatten", PICTURE, [], {}),
    ("Flatten", PICTURE, [], {"axis": 2}),
    ("Flatten", PICTURE, [], {"axis": 0}),
    ("Gemm", (3, 5), [floats(7, 5), floats(7)], {"transB": 1}),
    ("Gemm", (3, 5), [floats(5, 7), floats(3, 7)], {"alpha": 0.5, "beta": 2.0}),
    ("Gemm", (5, 3), [floats(5, 7)], {"transA": 1}),
    ("GlobalAveragePool", PICTURE, [], {}),
    ("HardSigmoid", PICTURE, [], {"alpha": 0.3}),
    ("HardSwish", PICTURE, [], {}),
    ("Identity", PICTURE, [], {}),
    ("LayerNormalization", (2, 3, 8), [floats(8), floats(8)], {}),
    ("LeakyRelu", PICTURE, [], {"alpha": 0.2}),
    ("MatMul", (2, 3, 5), [floats(5, 4)], {}),
    ("MaxPool", PICTURE, [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    ("MaxPool", PICTURE, [], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("Mul", PICTURE, [floats(4, 1, 1)], {}),
    ("Pow", PICTURE, [np.float32(2)], {}),
    ("ReduceMean", PICTURE, [], {"axes": [2, 3], "keepdims": 0}),
    ("ReduceMean", PICTURE, [], {}),
    ("Relu", PICTURE, [], {}),
    ("Reshape", PICTURE, [ints(0, -1, 4)], {}),
    ("Sigmoid", PICTURE, [], {}),
    ("Softmax", (3, 5), [], {}),
    ("Split", PICTURE, [ints(1, 3)], {"axis": 1}),
    ("Sqrt", PICTURE, [], {}),
    ("Squeeze", (2, 1, 3), [ints(1)], {}),
    ("Sub", PICTURE, [floats(1)], {}),
    ("Sum", PICTURE, [floats(*PICTURE), floats(*PICTURE)], {}),
    ("Tanh", PICTURE, [], {}),
    ("Transpose", PICTURE, [], {"perm": [0, 2, 3, 1]}),
    ("Transpose", PICTURE, [], {}),
    ("Unsqueeze", (2, 3), [ints(-1, 0)], {}),
]


def test_every_operator_has_a_case() -> None:
    """No operator is accepted that was not compared."""
    from sectum.hetee.worker.accelerators.pytorch.onnx_operators import OPERATORS

    assert set(OPERATORS) == {kind for kind, *_ in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_an_operator_computes_what_onnx_runtime_does(case: Any) -> None:
    """The first and all further outputs are those of ONNX Runtime, to float32's precision."""
    from sectum.hetee.worker.accelerators.pytorch.onnx_operators import OPERATORS

    kind, shape, given, attributes = case
    first = floats(*shape)
    n_outputs = 2 if kind == "Split" else 1
    names = [f"i{at}" for at in range(len(given))]
    outputs = [f"o{at}" for at in range(n_outputs)]
    node = helper.make_node(kind, ["x", *names], outputs, **attributes)
    graph = helper.make_graph(
        [node],
        kind,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in zip(names, given, strict=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    tensors = [torch.from_numpy(np.asarray(array).copy()) for array in (first, *given)]
    found = OPERATORS[kind](tensors, attributes, False)
    for ours, theirs in zip(found, session.run(None, {"x": first}), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=2e-5, atol=2e-6)


def network_of(*nodes: Any, weights: dict[str, np.ndarray]) -> bytes:
    graph = helper.make_graph(
        list(nodes),
        "n",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (helper.make_node("Loop", ["x"], ["y"]), "operator Loop"),
        (helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft"), "operator Gelu"),
        (helper.make_node("Relu", ["x"], ["y"]), "no float32 weights"),
    ],
)
def test_what_cannot_be_trained_is_refused(node: Any, why: str) -> None:
    """An unknown operator, or a model without weights, is refused with its name."""
    from sectum.hetee.worker.accelerators.pytorch.onnx_network import OnnxNetwork

    with pytest.raises(WorkRefused, match=why):
        OnnxNetwork(network_of(node, weights={}))


def test_weights_are_trained_and_statistics_follow() -> None:
    """Float32 initialisers are parameters, statistics of normalisations are buffers, scalars and integers neither."""
    from sectum.hetee.worker.accelerators.pytorch.onnx_network import OnnxNetwork

    weights = {
        "w": floats(4, 4),
        "scale": floats(4),
        "bias": floats(4),
        "mean": floats(4),
        "variance": floats(4),
        "two": np.float32(2),
        "shape": ints(-1, 4),
    }
    network = OnnxNetwork(
        network_of(
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("BatchNormalization", ["a", "scale", "bias", "mean", "variance"], ["b"]),
            helper.make_node("Mul", ["b", "two"], ["c"]),
            helper.make_node("Reshape", ["c", "shape"], ["y"]),
            weights=weights,
        )
    )
    assert set(network.parameters) == {"w", "scale", "bias"}
    assert set(network.buffers) == {"mean", "variance"}
    before = network.buffers["mean"].clone()
    network.scores(torch.ones(3, 4), training=False)
    assert torch.equal(network.buffers["mean"], before)
    network.scores(torch.ones(3, 4), training=True)
    assert not torch.equal(network.buffers["mean"], before)
