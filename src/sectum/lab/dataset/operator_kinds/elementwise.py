"""Operators that go element by element, in floats, integers and 8 bits."""

from __future__ import annotations

import math

from sectum.lab.dataset.operator_kinds.sizes import MOST_ELEMENTS, Sizes, an_input
from sectum.zoo.program import MICROSOFT, Writer

_UNARY = (
    "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "LeakyRelu", "Elu", "Selu", "Relu", "Abs", "Neg", "Softplus",
    "Softsign", "Erf", "Erf", "Exp", "Sqrt", "Log", "Reciprocal", "Floor", "Ceil", "Round", "Sign", "Sin", "Cos",
    "Atan", "Celu", "ThresholdedRelu",
)  # fmt: skip


def unary(s: Sizes, w: Writer) -> str:
    """A function of each element."""
    return w.op(s.rng.choice(_UNARY), an_input(w, *s.any_shape()))


def gelu(s: Sizes, w: Writer) -> str:
    """Gelu in the forms that fusions make."""
    rows, width = s.size(1, 2048), s.size(8, 2048)
    x = an_input(w, 1, rows, width)
    kind = s.rng.choice(("Gelu", "BiasGelu", "BiasGelu", "FastGelu", "FastGelu", "QuickGelu"))
    bias = [w.vector(width)] if kind == "BiasGelu" or (kind == "FastGelu" and s.chance()) else []
    return w.op(kind, x, *bias, domain=MICROSOFT)


def _operands(s: Sizes, w: Writer, dtype: str = "float32") -> tuple[str, str]:
    """Two operands: of one shape, or one stretched over the other, as a constant or not."""
    shape = s.any_shape()
    form = s.one(0, 0, 1, 2, 3, 4)
    if form == 0:
        other = shape
    elif form == 1:
        other = (1,)
    elif form == 2:
        other = (shape[-1],)
    elif form == 3:
        other = (1, shape[1], *(1 for _ in shape[2:]))
    else:
        other = (*shape[:-1], 1)
    small = math.prod(other) < math.prod(shape)
    constant = small and dtype == "float32" and s.chance()
    second = w.vector(0, mean=1.0, shape=other) if constant else an_input(w, *other, dtype=dtype)
    return an_input(w, *shape, dtype=dtype), second


def binary(s: Sizes, w: Writer) -> str:
    """Arithmetic on two tensors, one perhaps stretched."""
    kind = s.rng.choice(("Add", "Add", "Mul", "Mul", "Sub", "Div", "Max", "Min", "PRelu"))
    if kind == "PRelu":
        shape = s.shape(4)
        return w.op(kind, an_input(w, *shape), w.vector(0, shape=(shape[1], 1, 1)))
    return w.op(kind, *_operands(s, w))


def integer_arithmetic(s: Sizes, w: Writer) -> str:
    """Arithmetic on integers."""
    dtype = s.rng.choice(("int64", "int64", "int32"))
    return w.op(s.rng.choice(("Add", "Mul", "Sub")), *_operands(s, w, dtype))


def power(s: Sizes, w: Writer) -> str:
    """A power by a constant."""
    return w.op("Pow", an_input(w, *s.any_shape()), w.scalar(s.rng.choice((2.0, 2.0, 2.0, 3.0, 0.5, 1.7))))


def comparison(s: Sizes, w: Writer) -> str:
    """A comparison of two tensors."""
    kind = s.rng.choice(("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"))
    dtype = s.rng.choice(("float32", "int64")) if kind in ("Equal", "Greater", "Less") else "float32"
    return w.op(kind, *_operands(s, w, dtype))


def logic(s: Sizes, w: Writer) -> str:
    """Truth values combined."""
    shape = s.any_shape()
    if s.chance(0.4):
        return w.op("Not", an_input(w, *shape, dtype="bool"))
    return w.op(
        s.rng.choice(("And", "Or", "Xor")), an_input(w, *shape, dtype="bool"), an_input(w, *shape, dtype="bool")
    )


def where(s: Sizes, w: Writer) -> str:
    """One of two tensors, element by element."""
    shape = s.any_shape()
    condition = shape if s.chance() else (1, *shape[1:])
    other = w.scalar(-1e9) if s.chance(0.6) else an_input(w, *shape)
    return w.op("Where", an_input(w, *condition, dtype="bool"), an_input(w, *shape), other)


_CASTS = (
    ("float32", 10), ("float16", 1), ("float32", 7), ("int64", 1), ("int64", 1), ("uint8", 1), ("float32", 2),
    ("int32", 1), ("float32", 6), ("bool", 1), ("bool", 1), ("int64", 6), ("int32", 7), ("int64", 9),
)  # fmt: skip


def cast(s: Sizes, w: Writer) -> str:
    """Elements of another type."""
    dtype, to = s.rng.choice(_CASTS)
    return w.op("Cast", an_input(w, *s.any_shape(), dtype=dtype), to=to)


def batched_sum(s: Sizes, w: Writer) -> str:
    """A sum, a mean or an extremum of several tensors."""
    shape = s.any_shape(MOST_ELEMENTS // 4)
    return w.op(s.rng.choice(("Sum", "Mean", "Max", "Min")), *(an_input(w, *shape) for _ in range(s.one(2, 3, 4))))


def quantization(s: Sizes, w: Writer) -> str:
    """From floats to 8 bits, and back."""
    shape = s.any_shape()
    form = s.one(0, 1, 2)
    if form == 0:
        return w.ops("DynamicQuantizeLinear", an_input(w, *shape), outputs=3)[0]
    scale, zero = w.scalar(0.02), w.scalar(128, "uint8")
    if form == 1:
        return w.op("QuantizeLinear", an_input(w, *shape), scale, zero)
    return w.op("DequantizeLinear", an_input(w, *shape, dtype="uint8"), scale, zero)


def quantized_elementwise(s: Sizes, w: Writer) -> str:
    """Sums, functions, pools of 8-bit integers."""
    shape = s.shape(4, least_last=2)
    scale, zero = w.scalar(0.02), w.scalar(128, "uint8")
    x = an_input(w, *shape, dtype="uint8")
    kind = s.rng.choice(
        ("QLinearAdd", "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearConcat",
         "QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearSoftmax")
    )  # fmt: skip
    if kind in ("QLinearAdd", "QLinearMul"):
        other = an_input(w, *shape, dtype="uint8")
        return w.op(kind, x, scale, zero, other, scale, zero, scale, zero, domain=MICROSOFT)
    if kind == "QLinearConcat":
        other = an_input(w, *shape, dtype="uint8")
        return w.op(kind, scale, zero, x, scale, zero, other, scale, zero, domain=MICROSOFT, axis=1)
    more: dict[str, int | float | tuple[int, ...]] = {}
    if kind == "QLinearAveragePool":
        side = min(2, *shape[2:])
        more = {"kernel_shape": (side, side), "strides": (side, side)}
    elif kind == "QLinearGlobalAveragePool":
        more = {"channels_last": 0}
    elif kind == "QLinearSoftmax":
        more = {"opset": 13, "axis": -1}
    elif kind == "QLinearLeakyRelu":
        more = {"alpha": 0.1}
    return w.op(kind, x, scale, zero, scale, zero, domain=MICROSOFT, **more)
