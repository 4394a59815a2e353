"""How a program's products are stored and computed: in floats, in 8 bits, or with weights of 4 bits.

The operators are those that ONNX Runtime's own quantization tools write, so that the runtime fuses them as it does for
models of users.
"""

from __future__ import annotations

import math
from enum import StrEnum

from sectum.zoo.program import MICROSOFT, Writer

FOUR_BIT_BLOCK = 32


class Precision(StrEnum):
    """Of the weights and products of a network."""

    FLOAT = "float"
    DYNAMIC = "dynamic_int8"
    """Weights of 8 bits; activations are quantized while the network runs."""
    STATIC = "static_int8"
    """Weights and activations of 8 bits with stored scales, written as pairs of QuantizeLinear and DequantizeLinear."""
    FOUR_BIT = "int4_weights"
    """Weights of 4 bits in blocks; products in floats."""
    HALF_WEIGHTS = "float16_weights"
    """Weights stored in 16 bits and cast to 32, which the runtime folds when it loads the network."""


def product(w: Writer, x: str, inner: int, outer: int, precision: Precision, *, gain: float = 1.0) -> str:
    """Multiply the last axis of an activation, of size ``inner``, by a weight: its size becomes ``outer``."""
    match precision:
        case Precision.FLOAT:
            return w.op("MatMul", x, w.weight(inner, outer, gain=gain))
        case Precision.HALF_WEIGHTS:
            return w.op("MatMul", x, w.op("Cast", w.weight(inner, outer, gain=gain, dtype="float16"), to=1))
        case Precision.DYNAMIC:
            scaled, scale, zero = _quantized_once(w, x)
            weight = w.weight(inner, outer, dtype="int8")
            whole = w.op("MatMulInteger", scaled, weight, zero, w.scalar(0, "int8"))
            factor = w.op("Mul", scale, w.scalar(_weight_scale(inner, gain)))
            return w.op("Mul", w.op("Cast", whole, to=1), factor)
        case Precision.STATIC:
            weight = w.weight(inner, outer, dtype="int8")
            scale = w.scalar(_weight_scale(inner, gain))
            return w.op("MatMul", paired(w, x), w.op("DequantizeLinear", weight, scale, w.scalar(0, "int8")))
        case Precision.FOUR_BIT:
            blocks = -(-inner // FOUR_BIT_BLOCK)
            weight = w.weight(outer, blocks, FOUR_BIT_BLOCK // 2, dtype="uint8")
            scales = w.vector(outer * blocks, mean=gain / math.sqrt(inner) / 4, spread=0.01 / math.sqrt(inner))
            return w.op(
                "MatMulNBits", x, weight, scales,
                domain=MICROSOFT, K=inner, N=outer, bits=4, block_size=FOUR_BIT_BLOCK,
            )  # fmt: skip


def linear(w: Writer, x: str, inner: int, outer: int, precision: Precision, *, gain: float = 1.0) -> str:
    """As `product`, plus a bias."""
    return w.op("Add", product(w, x, inner, outer, precision, gain=gain), w.vector(outer))


def paired(w: Writer, x: str) -> str:
    """Quantize an activation to 8 bits and back, which marks where a network is computed in 8 bits."""
    zero, factor = w.scalar(128, "uint8"), w.scalar(0.05)
    return w.op("DequantizeLinear", w.op("QuantizeLinear", x, factor, zero), factor, zero)


def _weight_scale(fan_in: int, gain: float) -> float:
    """What brings weights that fill the range of 8 bits to the spread that keeps the size of activations."""
    return gain / math.sqrt(fan_in) / (127 / 3)


def _quantized_once(w: Writer, x: str) -> tuple[str, str, str]:
    """Quantize an activation while the network runs; once, however many products read it."""
    for op in reversed(w.lowered.operators):
        if op.type == "DynamicQuantizeLinear" and op.inputs == (x,):
            quantized, scale, zero = op.outputs
            return quantized, scale, zero
    quantized, scale, zero = w.ops("DynamicQuantizeLinear", x, outputs=3)
    return quantized, scale, zero
