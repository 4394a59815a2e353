"""Two small networks to begin with, as ONNX models with initial weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HIDDEN = 64
_CHANNELS = 16, 32
NAMES = ("mlp", "cnn")


def small_network(name: str, shape: tuple[int, int, int], classes: int, seed: int = 0) -> bytes:
    """A network for small pictures.

    Args:
        name: ``mlp``, two fully connected layers; or ``cnn``, two convolutions with normalisation, a pool between
            them, and one fully connected layer.
        shape: channels, height and width of a picture.
        classes: number of classes.
        seed: of the weights.

    Returns:
        An ONNX file with the input ``images`` and the output ``scores``.
    """
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(seed)
    weights: dict[str, NDArray[np.float32]] = {}
    nodes: list[Any] = []

    def weight(key: str, *dims: int) -> str:
        weights[key] = (draw.standard_normal(dims) * math.sqrt(2 / math.prod(dims[1:]))).astype(np.float32)
        return key

    def vector(key: str, size: int, value: float = 0.0) -> str:
        weights[key] = np.full(size, value, np.float32)
        return key

    def node(kind: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [f"v{len(nodes)}"], **attributes))
        return str(nodes[-1].output[0])

    value, channels = "images", shape[0]
    if name == "mlp":
        flat, features = node("Flatten", value), math.prod(shape)
        hidden = node(
            "Gemm", flat, weight("hidden.weight", _HIDDEN, features), vector("hidden.bias", _HIDDEN), transB=1
        )
        value, features = node("Relu", hidden), _HIDDEN
    else:
        for index, out in enumerate(_CHANNELS):
            at = f"conv{index}"
            value = node("Conv", value, weight(f"{at}.weight", out, channels, 3, 3), pads=[1, 1, 1, 1])
            state = [
                vector(f"{at}.{part}", out, start)
                for part, start in (("scale", 1), ("bias", 0), ("mean", 0), ("variance", 1))
            ]
            value = node("Relu", node("BatchNormalization", value, *state))
            channels = out
            if not index:
                value = node("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
        features = channels * (shape[1] // 2) * (shape[2] // 2)
        value = node("Flatten", value)
    node("Gemm", value, weight("scores.weight", classes, features), vector("scores.bias", classes), transB=1)
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", *shape])
    scores = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, ["N", classes])
    stored = [numpy_helper.from_array(array, key) for key, array in weights.items()]
    graph = helper.make_graph(nodes, name, [images], [scores], stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())
