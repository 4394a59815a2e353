"""Matrix products with weights and of activations, recurrent layers, attention."""

from __future__ import annotations

import math
from typing import Any

from sectum.lab.dataset.operator_kinds.sizes import MOST_ELEMENTS, MOST_PRODUCTS, Sizes, an_input, fitting
from sectum.zoo.precision import FOUR_BIT_BLOCK
from sectum.zoo.program import MICROSOFT, Writer


def matmul(s: Sizes, w: Writer) -> str:
    """A product with a weight."""
    rows, inner, outer = fitting(s, lambda m, k, n: m * k * n, (1, 2048), (8, 4096), (1, 4096))
    rows = 1 if s.chance(0.3) else rows
    if s.chance(0.4):
        return w.op("Gemm", an_input(w, rows, inner), w.weight(outer, inner, fan_in=inner), w.vector(outer), transB=1)
    first = () if s.chance(0.4) else (1,)
    return w.op("MatMul", an_input(w, *first, rows, inner), w.weight(inner, outer))


def shared_matmul(s: Sizes, w: Writer) -> str:
    """Products with one weight, one after the other, as in a recurrent layer that was unrolled."""
    rows, inner, outer = fitting(s, lambda m, k, n: m * k * n, (1, 16), (16, 4096), (16, 2048))
    rows = 1 if s.chance(0.7) else rows
    if s.chance(0.6):
        weight, bias = w.weight(outer, inner, fan_in=inner), w.vector(outer)
        made = [w.op("Gemm", an_input(w, rows, inner), weight, bias, transB=1) for _ in range(s.one(3, 6))]
    else:
        weight = w.weight(inner, outer)
        made = [w.op("MatMul", an_input(w, 1, rows, inner), weight) for _ in range(s.one(3, 6))]
    return w.op("Sum", *made)


def dynamic_matmul(s: Sizes, w: Writer) -> str:
    """A product of two activations, as in attention: heads of their own, long or short."""
    heads, rows, inner, outer = fitting(s, lambda h, m, k, n: h * m * k * n, (1, 32), (1, 1024), (8, 256), (1, 1024))
    rows = 1 if s.chance(0.3) else rows
    if s.chance():
        inner, outer = outer, inner
    batch = (1, heads) if s.chance(0.7) else (heads,)
    return w.op("MatMul", an_input(w, *batch, rows, inner), an_input(w, *batch, inner, outer))


def fused_matmul(s: Sizes, w: Writer) -> str:
    """A scaled product of two activations, the second turned."""
    heads, rows, inner, outer = fitting(s, lambda h, m, k, n: h * m * k * n, (1, 32), (1, 1024), (8, 256), (1, 1024))
    a, b = an_input(w, 1, heads, rows, inner), an_input(w, 1, heads, outer, inner)
    return w.op("FusedMatMul", a, b, domain=MICROSOFT, transB=1, alpha=0.125)


_EQUATIONS: tuple[tuple[str, str, str], ...] = (
    ("bhid,bhjd->bhij", "bhid", "bhjd"), ("bhij,bhjd->bhid", "bhij", "bhjd"), ("bij,bjk->bik", "bij", "bjk"),
    ("bchw,bkc->bkhw", "bchw", "bkc"), ("bihd,bjhd->bhij", "bihd", "bjhd"),
)  # fmt: skip


def einsum(s: Sizes, w: Writer) -> str:
    """A product by Einstein's notation."""
    equation, first, second = s.rng.choice(_EQUATIONS)
    while True:
        sizes = {letter: s.size(4, 256) for letter in {*first, *second}} | {"b": 1}
        elements = [math.prod(sizes[letter] for letter in term) for term in (first, second, equation.split("->")[1])]
        if math.prod(sizes.values()) <= MOST_PRODUCTS // 8 and max(elements) <= MOST_ELEMENTS:
            break
    a, b = (an_input(w, *(sizes[letter] for letter in term)) for term in (first, second))
    return w.op("Einsum", a, b, equation=equation)


def quantized_matmul(s: Sizes, w: Writer) -> str:
    """A product of 8-bit integers, in the forms that ONNX Runtime's tools and fusions make."""
    rows, inner, outer = fitting(s, lambda m, k, n: m * k * n, (1, 1024), (8, 4096), (8, 4096))
    rows = 1 if s.chance(0.3) else rows
    whole = s.whole()
    weight = w.weight(inner, outer, dtype=whole)
    scale, zero = w.scalar(0.02), w.scalar(0, whole)
    form = s.one(0, 0, 1, 1, 2, 3)
    if form == 0:
        bias = w.vector(outer) if s.chance() else ""
        return w.op(
            "DynamicQuantizeMatMul", an_input(w, 1, rows, inner), weight, scale, zero, *([bias] if bias else []),
            domain=MICROSOFT,
        )  # fmt: skip
    x = an_input(w, 1, rows, inner, dtype="uint8")
    if form == 1:
        return w.op("MatMulInteger", x, weight, w.scalar(128, "uint8"), zero)
    if form == 2:
        return w.op("MatMulIntegerToFloat", x, weight, scale, scale, w.scalar(128, "uint8"), zero, domain=MICROSOFT)
    middle = w.scalar(128, "uint8")
    return w.op("QLinearMatMul", x, scale, middle, weight, scale, zero, scale, middle)


def quantized_gemm(s: Sizes, w: Writer) -> str:
    """A fully connected layer of 8-bit integers."""
    rows, inner, outer = fitting(s, lambda m, k, n: m * k * n, (1, 64), (8, 4096), (8, 4096))
    whole = s.whole()
    scale, middle, zero = w.scalar(0.02), w.scalar(128, "uint8"), w.scalar(0, whole)
    weight = w.weight(outer, inner, dtype=whole)
    bias = w.values(*([0] * outer), dtype="int32")
    return w.op(
        "QGemm", an_input(w, rows, inner, dtype="uint8"), scale, middle, weight, scale, zero, bias, scale, middle,
        domain=MICROSOFT, transB=1, alpha=1.0,
    )  # fmt: skip


def four_bit_matmul(s: Sizes, w: Writer) -> str:
    """A product with weights of 4 bits."""
    block = s.one(FOUR_BIT_BLOCK, FOUR_BIT_BLOCK, 16, 64, 128)
    rows, inner, outer = fitting(s, lambda m, k, n: m * k * n, (1, 256), (64, 4096), (16, 8192))
    rows, inner = (1 if s.chance() else rows), max(block, inner // block * block)
    weight = w.weight(outer, inner // block, block // 2, dtype="uint8")
    scales = w.vector(outer * inner // block, mean=0.01, spread=0.001)
    return w.op(
        "MatMulNBits", an_input(w, 1, rows, inner), weight, scales,
        domain=MICROSOFT, K=inner, N=outer, bits=4, block_size=block, accuracy_level=s.one(0, 0, 4),
    )  # fmt: skip


def recurrent(s: Sizes, w: Writer, *, kind: str) -> str:
    """An LSTM, a GRU or an RNN, in one or two directions."""
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    directions = s.one(1, 1, 2)
    steps, batch, inputs, hidden = fitting(
        s, lambda t, b, i, h: directions * t * b * gates * h * (i + h), (1, 1000), (1, 4), (8, 1024), (8, 768)
    )
    batch = 1 if s.chance(0.8) else batch
    x = an_input(w, steps, batch, inputs)
    weight = w.weight(directions, gates * hidden, inputs, fan_in=inputs)
    recurrence = w.weight(directions, gates * hidden, hidden, fan_in=hidden)
    bias = w.vector(0, shape=(directions, 2 * gates * hidden))
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": "bidirectional" if directions == 2 else "forward"}
    if kind == "GRU" and s.chance():
        attributes["linear_before_reset"] = 1
    outputs = {"LSTM": 3, "GRU": 2, "RNN": 2}[kind]
    return w.ops(kind, x, weight, recurrence, bias, outputs=outputs, **attributes)[0]


def quantized_lstm(s: Sizes, w: Writer) -> str:
    """An LSTM whose weights have 8 bits."""
    directions = s.one(1, 1, 2)
    steps, inputs, hidden = fitting(s, lambda t, i, h: directions * t * 4 * h * (i + h), (1, 1000), (8, 1024), (8, 768))
    whole = s.whole()
    weight = w.weight(directions, inputs, 4 * hidden, dtype=whole)
    recurrence = w.weight(directions, hidden, 4 * hidden, dtype=whole)
    scales = w.values(*([0.002] * directions), dtype="float32")
    zeros = w.values(*([0] * directions), dtype=whole)
    bias = w.vector(0, shape=(directions, 8 * hidden))
    return w.ops(
        "DynamicQuantizeLSTM", an_input(w, steps, 1, inputs), weight, recurrence, bias, "", "", "", "",
        scales, zeros, scales, zeros, outputs=3, domain=MICROSOFT,
        hidden_size=hidden, direction="bidirectional" if directions == 2 else "forward",
    )[0]  # fmt: skip


def attention(s: Sizes, w: Writer) -> str:
    """Attention as one operator: of an encoder, or of a decoder with its past."""
    heads, depth = s.size(1, 16), s.one(16, 32, 64, 64, 128)
    queries, keys = s.size(1, 512), s.size(1, 1024)
    if s.chance():
        keys = queries
    width = heads * depth
    form = s.one(0, 1, 2)
    if form == 0:
        q = an_input(w, 1, queries, width)
        k, v = an_input(w, 1, keys, width), an_input(w, 1, keys, width)
        return w.op("MultiHeadAttention", q, k, v, domain=MICROSOFT, num_heads=heads)
    if form == 1:
        queries = min(queries, 256)
        weight, bias = w.weight(width, 3 * width), w.vector(3 * width)
        return w.op("Attention", an_input(w, 1, queries, width), weight, bias, domain=MICROSOFT, num_heads=heads)
    x = an_input(w, 1, heads, queries, depth)
    cos, sin = w.vector(0, shape=(queries, depth // 2)), w.vector(0, shape=(queries, depth // 2))
    places = w.values(*range(queries), shape=(1, queries))
    return w.op("RotaryEmbedding", x, places, cos, sin, domain=MICROSOFT)
