"""Shapes of ONNX Runtime's own operators: what the rules say is what the runtime makes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper

from sectum.errors import ModelError
from sectum.graph import read

Array = NDArray[Any]


def floats(*shape: int) -> Array:
    return np.linspace(0.1, 0.9, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def u8(*shape: int) -> Array:
    return np.full(shape, 3, np.uint8)


def i8(*shape: int) -> Array:
    return np.full(shape, 2, np.int8)


def i32(*values: int) -> Array:
    return np.array(values, np.int32)


SCALE, ZERO, SIGNED_ZERO = np.array(0.05, np.float32), np.array(3, np.uint8), np.array(0, np.int8)


@dataclass
class Case:
    """One operator: its inputs (None where one is left out), the number of outputs, its attributes."""

    type: str
    inputs: list[Array | None]
    outputs: int = 1
    attributes: dict[str, Any] = field(default_factory=dict)
    domain: str = "com.microsoft"
    constants: tuple[int, ...] = ()  # inputs that the runtime wants to be initialisers

    def model(self) -> ModelProto:
        names = ["" if value is None else f"i{index}" for index, value in enumerate(self.inputs)]
        outputs = [f"o{index}" for index in range(self.outputs)]
        node = helper.make_node(self.type, names, outputs, domain=self.domain, **self.attributes)
        graph = helper.make_graph(
            [node],
            "one",
            [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
                for index, (name, value) in enumerate(zip(names, self.inputs, strict=True))
                if value is not None and index not in self.constants
            ],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            [numpy_helper.from_array(self.inputs[index], names[index]) for index in self.constants],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


LSTM = [floats(5, 2, 6), i8(1, 6, 16), i8(1, 4, 16), *[None] * 5, floats(1), i8(1), floats(1), i8(1)]
QKV = [floats(2, 5, 8), floats(2, 6, 8), floats(2, 6, 12)]
NORM = [floats(2, 5, 8), floats(2, 5, 8), floats(8), floats(8)]
POOL = {"kernel_shape": [2, 2], "strides": [2, 2]}
CASES = [
    Case("DynamicQuantizeLSTM", LSTM, 3, {"hidden_size": 4}, constants=(1, 2, 8, 9, 10, 11)),
    Case("DynamicQuantizeMatMul", [floats(2, 5, 8), i8(8, 3), floats(1), i8(1)]),
    Case("MatMulIntegerToFloat", [u8(2, 5, 8), i8(8, 3), SCALE, SCALE, ZERO, SIGNED_ZERO]),
    Case("MatMulNBits", [floats(2, 5, 32), u8(7, 1, 16), floats(7)], 1,
         {"K": 32, "N": 7, "bits": 4, "block_size": 32}, constants=(1, 2)),
    Case("GatherBlockQuantized", [u8(9, 16), np.array([[1, 2, 3]]), floats(9, 1)], 1,
         {"block_size": 32, "quantize_axis": 1}, constants=(0, 2)),
    Case("QLinearAdd", [u8(2, 5, 8), SCALE, ZERO, u8(8), SCALE, ZERO, SCALE, ZERO]),
    Case("QLinearMul", [u8(2, 1, 8), SCALE, ZERO, u8(5, 8), SCALE, ZERO, SCALE, ZERO]),
    Case("QLinearSigmoid", [u8(2, 5), SCALE, ZERO, SCALE, ZERO]),
    Case("QLinearLeakyRelu", [u8(2, 5), SCALE, ZERO, SCALE, ZERO]),
    Case("QLinearSoftmax", [u8(2, 5), SCALE, ZERO, SCALE, ZERO], 1, {"opset": 13, "axis": -1}, constants=(1, 2, 3, 4)),
    Case("QLinearConcat", [SCALE, ZERO, u8(2, 5), SCALE, ZERO, u8(2, 3), SCALE, ZERO], 1, {"axis": 1},
         constants=(0, 1, 3, 4, 6, 7)),
    Case("QLinearWhere", [np.ones((2, 1), bool), u8(2, 5), SCALE, ZERO, u8(1, 5), SCALE, ZERO, SCALE, ZERO],
         constants=(2, 3, 5, 6, 7, 8)),
    Case("QLinearGlobalAveragePool", [u8(2, 3, 6, 7), SCALE, ZERO, SCALE, ZERO]),
    Case("QLinearGlobalAveragePool", [u8(2, 6, 7, 3), SCALE, ZERO, SCALE, ZERO], 1, {"channels_last": 1}),
    Case("QLinearAveragePool", [u8(2, 3, 6, 8), SCALE, ZERO, SCALE, ZERO], 1, POOL, constants=(1, 2, 3, 4)),
    Case("QLinearAveragePool", [u8(2, 6, 8, 3), SCALE, ZERO, SCALE, ZERO], 1, {**POOL, "channels_last": 1},
         constants=(1, 2, 3, 4)),
    Case("QLinearConv", [u8(1, 6, 8, 3), SCALE, ZERO, i8(4, 3, 3, 3), SCALE, SIGNED_ZERO, SCALE, ZERO], 1,
         {"channels_last": 1, "strides": [2, 2]}, constants=(1, 2, 3, 4, 5, 6, 7)),
    Case("QGemm", [u8(2, 8), SCALE, ZERO, i8(5, 8), SCALE, SIGNED_ZERO], 1, {"transB": 1}),
    Case("QGemm", [u8(2, 8), SCALE, ZERO, i8(8, 5), SCALE, SIGNED_ZERO, i32(*[1] * 5), SCALE, ZERO]),
    Case("NhwcMaxPool", [u8(1, 6, 8, 3)], 1, POOL),
    Case("QuantizeLinear", [floats(2, 5), SCALE, ZERO], constants=(1, 2)),
    Case("DequantizeLinear", [u8(2, 5), SCALE, ZERO], constants=(1, 2)),
    Case("Attention", [floats(2, 5, 8), floats(8, 24), floats(24)], 2, {"num_heads": 2}),
    Case("Attention", [floats(2, 1, 8), floats(8, 24), floats(24), None, floats(2, 2, 2, 6, 4)], 2, {"num_heads": 2}),
    Case("Attention", [floats(2, 5, 8), floats(8, 28), floats(28)], 1,
         {"num_heads": 2, "qkv_hidden_sizes": [8, 8, 12]}),
    Case("QAttention", [u8(2, 5, 8), i8(8, 24), floats(24), SCALE, SCALE, None, ZERO, SIGNED_ZERO], 1,
         {"num_heads": 2}, constants=(1, 4, 7)),
    Case("MultiHeadAttention", QKV, 3, {"num_heads": 2}),
    Case("MultiHeadAttention", [floats(2, 1, 8), *[floats(2, 1, 8)] * 2, *[None] * 3, *[floats(2, 2, 6, 4)] * 2], 3,
         {"num_heads": 2}),
    Case("GroupQueryAttention", [floats(1, 1, 16), *[floats(1, 1, 8)] * 2, *[floats(1, 1, 6, 8)] * 2, i32(6),
         np.array(7, np.int32)], 3, {"num_heads": 2, "kv_num_heads": 1}, constants=(5, 6)),
    Case("GroupQueryAttention", [floats(1, 4, 32), None, None, *[floats(1, 1, 6, 8)] * 2, i32(3),
         np.array(4, np.int32)], 3, {"num_heads": 2, "kv_num_heads": 1}, constants=(5, 6)),
    Case("SkipLayerNormalization", NORM),
    Case("SkipSimplifiedLayerNormalization", NORM[:3]),
    Case("SimplifiedLayerNormalization", [floats(2, 5, 8), floats(8)], 1, {"axis": -1}, domain=""),
    Case("EmbedLayerNormalization", [np.ones((2, 5), np.int32), np.zeros((2, 5), np.int32), floats(9, 8),
         floats(6, 8), floats(2, 8), floats(8), floats(8)], 2),
    Case("RotaryEmbedding", [floats(1, 5, 8), np.arange(5)[None], floats(9, 2), floats(9, 2)], 1, {"num_heads": 2}),
    Case("FusedMatMul", [floats(2, 8, 5), floats(2, 8, 3)], 1, {"transA": 1}),
    Case("FusedGemm", [floats(2, 8), floats(8, 3), floats(3)], 1, {"activation": "Relu"}),
    Case("FusedConv", [floats(1, 3, 6, 6), floats(4, 3, 3, 3)], 1, {"activation": "Relu"}, constants=(1,)),
    Case("BiasGelu", [floats(2, 5, 8), floats(8)]),
    *[Case(name, [floats(2, 5, 8)]) for name in ("FastGelu", "QuickGelu", "Gelu")],
    Case("Trilu", [floats(2, 5, 8)]),
    Case("Inverse", [np.eye(3, dtype=np.float32)[None]]),
    Case("CDist", [floats(4, 3), floats(5, 3)], 1, {"metric": "euclidean"}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.type)
def test_shapes_are_those_that_the_runtime_makes(case: Case) -> None:
    """Shape and type of every output of a contrib operator are those of a real inference."""
    content = case.model().SerializeToString()
    graph = read(content).graph
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    feeds = {spec.name: case.inputs[int(spec.name[1:])] for spec in session.get_inputs()}
    for name, value in zip(graph.outputs, session.run(None, feeds), strict=True):
        assert (graph.tensors[name].shape, graph.tensors[name].dtype) == (value.shape, value.dtype.name), name


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.type)
def test_wrong_inputs_are_refused(case: Case) -> None:
    """An operator whose inputs are scalars, or are missing, ends in a shape or in one clear error."""
    for inputs in ([None if v is None else v.ravel()[:1].reshape(()) for v in case.inputs], case.inputs[:1], [],
                   [None if v is None else v.ravel()[:1] for v in case.inputs]):  # fmt: skip
        constants = tuple(index for index in case.constants if index < len(inputs))
        wrong = Case(case.type, inputs, case.outputs, case.attributes, case.domain, constants)
        with suppress(ModelError):
            read(wrong.model().SerializeToString())
