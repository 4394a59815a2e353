"""One small network of every kind that people bring, each made of a few operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


class Network:
    """A network that is written operator by operator."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._random = np.random.default_rng(0)

    def input(self, *shape: int, kind: int = TensorProto.FLOAT) -> str:
        """Declare an input of the graph."""
        name = f"x{len(self._inputs)}"
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def constant(self, value: NDArray[np.generic] | Sequence[int] | float, dtype: type | None = None) -> str:
        """Declare a constant."""
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def weight(self, *shape: int) -> str:
        """Declare a float weight."""
        return self.constant((self._random.standard_normal(shape) * 0.05).astype(np.float32))

    def bytes_(self, *shape: int) -> str:
        """Declare an int8 weight."""
        return self.constant(self._random.integers(-100, 100, shape, dtype=np.int8))

    def op(self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: object) -> str:
        """Append an operator; its first result is returned, the others follow as ``<name>_1``, ..."""
        name = f"t{len(self._nodes)}"
        made = [name, *(f"{name}_{index}" for index in range(1, outputs))]
        self._nodes.append(helper.make_node(kind, inputs, made, name=name, domain=domain, **attributes))
        return name

    def indices(self, count: int, size: int) -> str:
        """Append indices below ``size``, of shape ``(1, count)``, that depend on an input and are drawn at random.

        Measured inputs of integers are 0 or 1.
        """
        base = self.constant(self._random.integers(0, size - 1, (1, count), np.int64))
        return self.op("Add", self.input(1, count, kind=TensorProto.INT64), base)

    def constant_node(self, *shape: int) -> str:
        """Append a Constant operator that holds a float weight."""
        value = (self._random.standard_normal(shape) * 0.05).astype(np.float32)
        return self.op("Constant", value=numpy_helper.from_array(value))

    def gelu(self, x: str) -> str:
        """Append the exact GELU in primitive operators."""
        scaled = self.op("Erf", self.op("Div", x, self.constant(2**0.5, np.float32)))
        product = self.op("Mul", x, self.op("Add", scaled, self.constant(1, np.float32)))
        return self.op("Mul", product, self.constant(0.5, np.float32))

    def quantized(self, x: str, zero_point: int = 128) -> tuple[str, str, str]:
        """Append QuantizeLinear; returns the result with its scale and zero point."""
        scale_name, zero = self.constant(0.02, np.float32), self.constant(zero_point, np.uint8)
        return self.op("QuantizeLinear", x, scale_name, zero), scale_name, zero

    def dequantized(self, x: str, zero_point: int = 128) -> str:
        """Append QuantizeLinear and DequantizeLinear."""
        return self.op("DequantizeLinear", *self.quantized(x, zero_point))

    def dequantized_weight(self, *shape: int) -> str:
        """Declare an int8 weight with one scale for each of its first axis, and append its DequantizeLinear."""
        scale = self.constant(np.full(shape[0], 0.01), np.float32)
        zero = self.constant(np.zeros(shape[0]), np.int8)
        return self.op("DequantizeLinear", self.bytes_(*shape), scale, zero, axis=0)

    def dequantized_matrix(self, rows: int, columns: int) -> str:
        """Declare an int8 matrix with one scale, and append its DequantizeLinear."""
        scale, zero = self.constant(0.01, np.float32), self.constant(0, np.int8)
        return self.op("DequantizeLinear", self.bytes_(rows, columns), scale, zero)

    def model(self, *outputs: str, opset: int = 17) -> bytes:
        """Serialise the network; the shapes of its outputs are not declared."""
        declared = [helper.make_empty_tensor_value_info(name) for name in outputs]
        for value in declared:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
        graph = helper.make_graph(self._nodes, "network", self._inputs, declared, self._weights)
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def conv_1d(n: Network) -> str:
    x = n.op("Relu", n.op("Conv", n.input(1, 32, 4000), n.weight(96, 32, 9), pads=[4, 4]))
    return n.op("Conv", x, n.weight(64, 96, 15), pads=[7, 7], strides=[4])


def conv_3d(n: Network) -> str:
    x = n.op("Relu", n.op("Conv", n.input(1, 8, 12, 24, 24), n.weight(32, 8, 3, 3, 3), pads=[1] * 6))
    x = n.op("MaxPool", x, kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    return n.op("Conv", x, n.weight(64, 32, 3, 3, 3), pads=[1] * 6)


def conv_transpose(n: Network) -> str:
    x = n.op("Relu", n.op("Conv", n.input(1, 64, 28, 28), n.weight(128, 64, 3, 3), pads=[1] * 4, strides=[2, 2]))
    x = n.op("ConvTranspose", x, n.weight(128, 64, 4, 4), n.weight(64), pads=[1] * 4, strides=[2, 2])
    return n.op("ConvTranspose", n.op("Relu", x), n.weight(64, 32, 2, 2), strides=[2, 2])


def lstm(n: Network) -> str:
    w, r, b = n.weight(2, 1024, 128), n.weight(2, 1024, 256), n.weight(2, 2048)
    x = n.input(60, 1, 128)
    return n.op("LSTM", x, w, r, b, outputs=3, hidden_size=256, direction="bidirectional")


def lstm_of_one_direction(n: Network) -> str:
    x = n.op("LSTM", n.input(80, 2, 96), n.weight(1, 768, 96), n.weight(1, 768, 192), hidden_size=192)
    x = n.op("Squeeze", x, n.constant([1], np.int64))
    return n.op("LSTM", x, n.weight(1, 768, 192), n.weight(1, 768, 192), n.weight(1, 1536), hidden_size=192)


def gru(n: Network) -> str:
    w, r, b = n.weight(2, 768, 128), n.weight(2, 768, 256), n.weight(2, 1536)
    return n.op("GRU", n.input(60, 1, 128), w, r, b, hidden_size=256, direction="bidirectional")


def gru_of_one_direction(n: Network) -> str:
    w, r, b = n.weight(1, 768, 128), n.weight(1, 768, 256), n.weight(1, 1536)
    return n.op("GRU", n.input(80, 1, 128), w, r, b, hidden_size=256, linear_before_reset=1)


def rnn(n: Network) -> str:
    return n.op("RNN", n.input(80, 1, 128), n.weight(1, 512, 128), n.weight(1, 512, 512), hidden_size=512)


def large_table(n: Network) -> str:
    ids = n.indices(300, 20_000)
    return n.op("MatMul", n.op("Gather", n.weight(20_000, 256), ids), n.weight(256, 512))


def table_in_a_constant(n: Network) -> str:
    ids = n.indices(300, 4_000)
    x = n.op("Gather", n.op("Identity", n.constant_node(4_000, 256)), ids)
    return n.op("MatMul", x, n.constant_node(256, 512))


def tied_embedding(n: Network) -> str:
    table = n.weight(4_000, 128)
    x = n.op("Gather", table, n.indices(64, 4_000))
    x = n.op("Relu", n.op("MatMul", x, n.weight(128, 128)))
    return n.op("MatMul", x, n.op("Transpose", table, perm=[1, 0]))


def shared_weights(n: Network) -> str:
    weight, x = n.weight(512, 512), n.input(1, 64, 512)
    for _ in range(4):
        x = n.op("Relu", n.op("MatMul", x, weight))
    return x


def dynamic_operands(n: Network) -> str:
    queries, keys = n.input(1, 8, 64, 128), n.input(1, 8, 256, 128)
    scores = n.op("Softmax", n.op("MatMul", queries, n.op("Transpose", keys, perm=[0, 1, 3, 2])))
    return n.op("MatMul", scores, keys)


def stacked_weights(n: Network) -> str:
    return n.op("MatMul", n.op("Relu", n.op("MatMul", n.input(8, 64, 256), n.weight(8, 256, 256))), n.weight(256, 300))


def gemm_of_transposed(n: Network) -> str:
    x = n.op("Gemm", n.input(64, 600), n.weight(1000, 600), n.weight(1000), transB=1)
    x = n.op("Gemm", n.op("Relu", x), n.weight(1000, 500), n.weight(500))
    return n.op("Gemm", x, n.op("Transpose", n.weight(400, 500), perm=[1, 0]), n.weight(400))


def qdq_conv(n: Network) -> str:
    x = n.dequantized(n.input(1, 64, 56, 56))
    x = n.dequantized(n.op("Relu", n.op("Conv", x, n.dequantized_weight(64, 64, 3, 3), pads=[1] * 4)), zero_point=0)
    x = n.dequantized(n.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), zero_point=0)
    y = n.dequantized(n.op("Conv", x, n.dequantized_weight(64, 64, 3, 3), pads=[1] * 4))
    x = n.dequantized(n.op("Add", x, y))
    x = n.dequantized(n.op("Conv", x, n.dequantized_weight(128, 64, 1, 1)))
    x = n.dequantized(n.op("GlobalAveragePool", x))
    x = n.dequantized(n.op("Flatten", x))
    return n.dequantized(n.op("Gemm", x, n.dequantized_matrix(128, 1000)))


def half_quantized_conv(n: Network) -> str:
    x = n.dequantized(n.input(1, 64, 56, 56))
    x = n.dequantized(n.op("Relu", n.op("Conv", x, n.dequantized_weight(64, 64, 3, 3), pads=[1] * 4)))
    return n.op("GlobalAveragePool", n.op("Conv", x, n.weight(64, 64, 3, 3), pads=[1] * 4))


def qdq_matmul(n: Network) -> str:
    x = n.dequantized(n.input(1, 64, 512))
    x = n.dequantized(n.op("MatMul", x, n.dequantized_matrix(512, 768)))
    return n.dequantized(n.op("MatMul", x, n.dequantized_matrix(768, 256)))


def qlinear_conv(n: Network) -> str:
    x, scale, zero = n.quantized(n.input(1, 64, 56, 56))
    for _ in range(2):
        w_scale = n.constant(np.full(64, 0.01), np.float32)
        w_zero = n.constant(np.zeros(64), np.int8)
        x = n.op("QLinearConv", x, scale, zero, n.bytes_(64, 64, 3, 3), w_scale, w_zero, scale, zero, pads=[1] * 4)
    return n.op("DequantizeLinear", x, scale, zero)


def dynamic_int8_matmul(n: Network) -> str:
    x = n.input(1, 64, 512)
    for columns in (1536, 512):
        rows = 512 if columns == 1536 else 1536
        q = n.op("DynamicQuantizeLinear", x, outputs=3)
        product = n.op("Cast", n.op("MatMulInteger", q, n.bytes_(rows, columns), f"{q}_2"), to=TensorProto.FLOAT)
        scale = n.op("Mul", f"{q}_1", n.constant(0.01, np.float32))
        x = n.op("Relu", n.op("Add", n.op("Mul", product, scale), n.weight(columns)))
    return x


def transformer_block(n: Network) -> str:
    width, heads, length = 384, 12, 128
    x = n.input(1, length, width)
    split = n.constant([1, length, heads, width // heads], np.int64)

    def head(perm: list[int]) -> str:
        return n.op("Transpose", n.op("Reshape", n.op("MatMul", x, n.weight(width, width)), split), perm=perm)

    scores = n.op("MatMul", head([0, 2, 1, 3]), head([0, 2, 3, 1]))
    scores = n.op("Softmax", n.op("Mul", scores, n.constant(0.18, np.float32)))
    y = n.op("Transpose", n.op("MatMul", scores, head([0, 2, 1, 3])), perm=[0, 2, 1, 3])
    y = n.op("Reshape", y, n.constant([1, length, width], np.int64))
    y = n.op("Add", n.op("MatMul", y, n.weight(width, width)), x)
    y = n.op("LayerNormalization", y, n.weight(width), n.weight(width))
    z = n.gelu(n.op("Add", n.op("MatMul", y, n.weight(width, 4 * width)), n.weight(4 * width)))
    return n.op("Add", n.op("MatMul", z, n.weight(4 * width, width)), y)


def byte_model(n: Network) -> str:
    ids = n.input(1, 2048, kind=TensorProto.INT64)
    x = n.op("OneHot", ids, n.constant([256], np.int64), n.constant([0, 1], np.float32))
    x = n.op("Transpose", x, perm=[0, 2, 1])
    x = n.op("Relu", n.op("Conv", x, n.weight(128, 256, 7), n.weight(128), pads=[3, 3]))
    return n.op("Gemm", n.op("Flatten", n.op("GlobalMaxPool", x)), n.weight(128, 256))


def channels_last(n: Network) -> str:
    x = n.op("Cast", n.input(1, 56, 56, 32, kind=TensorProto.FLOAT16), to=TensorProto.FLOAT)
    for _ in range(2):
        x = n.op("Transpose", x, perm=[0, 3, 1, 2])
        x = n.op("Conv", x, n.weight(32, 32, 3, 3), n.weight(32), pads=[1] * 4)
        x = n.op("Relu", n.op("Transpose", x, perm=[0, 2, 3, 1]))
        x = n.op("Cast", n.op("Cast", x, to=TensorProto.FLOAT16), to=TensorProto.FLOAT)
    return n.op("ReduceMean", x, axes=[1, 2])


def signal_unet(n: Network) -> str:
    x = n.op("Relu", n.op("Conv", n.input(1, 16, 6000), n.weight(64, 16, 15), pads=[7, 7], strides=[2]))
    y = n.gelu(n.op("Conv", x, n.weight(128, 64, 15), pads=[7, 7], strides=[2]))
    y = n.op("ConvTranspose", y, n.weight(128, 64, 4), strides=[2], pads=[1, 1])
    y = n.op("Concat", x, y, axis=1)
    return n.op("Sigmoid", n.op("Conv", y, n.weight(32, 128, 7), n.weight(32), pads=[3, 3]))


def resize_pad_slice(n: Network) -> str:
    x = n.op("Pad", n.input(1, 32, 40, 40), n.constant([0, 0, 4, 4, 0, 0, 4, 4], np.int64))
    x = n.op("Resize", x, "", n.constant([1, 1, 2, 2], np.float32), mode="linear")
    axes = n.constant([2, 3], np.int64)
    x = n.op("Slice", x, n.constant([8, 8], np.int64), n.constant([72, 72], np.int64), axes)
    x = n.op("Pow", x, n.constant(2, np.float32))
    return n.op("Where", n.op("Greater", x, n.constant(0.5, np.float32)), x, n.constant(0, np.float32))


def qlinear_conv_as_product(n: Network) -> str:
    x, scale, zero = n.quantized(n.input(1, 3, 112, 112))
    for channels, filters, kernel in ((3, 40, 3), (40, 38, 5)):
        w_scale, w_zero = n.constant(np.full(filters, 0.01), np.float32), n.constant(np.zeros(filters), np.int8)
        weight, pads = n.bytes_(filters, channels, kernel, kernel), [kernel // 2] * 4
        x = n.op("QLinearConv", x, scale, zero, weight, w_scale, w_zero, scale, zero, pads=pads)
    return n.op("DequantizeLinear", x, scale, zero)


def qlinear_conv_of_unsigned_weights(n: Network) -> str:
    x, scale, zero = n.quantized(n.input(1, 32, 56, 56))
    weight = n.constant(np.random.default_rng(0).integers(0, 255, (64, 32, 3, 3), np.uint8))
    x = n.op("QLinearConv", x, scale, zero, weight, scale, n.constant(128, np.uint8), scale, zero, pads=[1] * 4)
    return n.op("DequantizeLinear", x, scale, zero)


def conv_integer(n: Network) -> str:
    x = n.quantized(n.input(1, 32, 56, 56))[0]
    x = n.op("ConvInteger", x, n.bytes_(48, 32, 3, 3), n.constant(128, np.uint8), n.constant(0, np.int8), pads=[1] * 4)
    return n.op("Cast", x, to=TensorProto.FLOAT)


def int8_matmul_of_one_row(n: Network) -> str:
    q = n.op("DynamicQuantizeLinear", n.input(1, 1, 810), outputs=3)
    x = n.op("MatMulInteger", q, n.bytes_(810, 1900), f"{q}_2")
    return n.op("Cast", x, to=TensorProto.FLOAT)


def quantized_lstm(n: Network) -> str:
    scale, zero = n.constant([0.002, 0.002], np.float32), n.constant([0, 0], np.int8)
    return n.op(
        "DynamicQuantizeLSTM", n.input(60, 1, 100), n.bytes_(2, 100, 1000), n.bytes_(2, 250, 1000), n.weight(2, 2000),
        "", "", "", "", scale, zero, scale, zero,
        outputs=3, domain="com.microsoft", hidden_size=250, direction="bidirectional",
    )  # fmt: skip


def _four_bit(n: Network, columns: int, **attributes: int) -> str:
    weight = n.constant(np.random.default_rng(0).integers(0, 255, (columns, 24, 16), np.uint8))
    scales = n.constant(np.full(columns * 24, 0.01), np.float32)
    return n.op(
        "MatMulNBits", n.input(1, 64, 768), weight, scales,
        domain="com.microsoft", K=768, N=columns, bits=4, block_size=32, **attributes,
    )  # fmt: skip


def four_bit_matmul(n: Network) -> str:
    return _four_bit(n, 768)


def four_bit_matmul_of_integers(n: Network) -> str:
    return _four_bit(n, 3000, accuracy_level=4)


KINDS: dict[str, Callable[[Network], str]] = {
    make.__name__: make
    for make in (
        conv_1d, conv_3d, conv_transpose, lstm, lstm_of_one_direction, gru, gru_of_one_direction, rnn, large_table,
        table_in_a_constant, tied_embedding, shared_weights, dynamic_operands, stacked_weights, gemm_of_transposed,
        qdq_conv, half_quantized_conv, qdq_matmul, qlinear_conv, dynamic_int8_matmul, transformer_block, byte_model,
        channels_last, signal_unet, resize_pad_slice, qlinear_conv_as_product, qlinear_conv_of_unsigned_weights,
        conv_integer, int8_matmul_of_one_row, quantized_lstm, four_bit_matmul,
        four_bit_matmul_of_integers,
    )
}  # fmt: skip
"""A function for each kind, which writes the network and returns its output."""


def build(kind: str) -> bytes:
    """A serialised network of a kind."""
    network = Network()
    return network.model(KINDS[kind](network))
