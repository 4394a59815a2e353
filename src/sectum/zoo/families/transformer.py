"""What encoders and decoders share, in the different ways in which exporters write it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sectum.zoo.families.drawing import choose, precision
from sectum.zoo.precision import Precision, linear, product
from sectum.zoo.program import MICROSOFT, Writer
from sectum.zoo.variation import Uniform

SCALES = ("query", "roots", "divided scores", "multiplied scores")
MASKS = ("added", "selected", "none")
JOINTS = ("apart", "split", "slices", "stacked")
GELUS = ("erf", "tanh", "operator", "fast operator")
NORMS = ("operator", "written out")
PRODUCTS = ("matmul", "gemm")
SHAPES = ("constant", "followed")

LOWEST = -3.4028234663852886e38
"""The lowest float32: what exporters write where the logits are to be ignored."""

# Residual branches add little to what they join.
_BRANCH_GAIN = 0.5


@dataclass(frozen=True, slots=True)
class Style:
    """How an exporter writes a transformer.

    Attributes:
        scale: where attention is scaled: on the queries, by a root on queries and keys, or on the scores.
        mask: how padding is masked: by adding a large negative number, by selecting it, or not at all.
        joint: queries, keys and values apart, or one product with Split, with Slice, or as an axis for Gather.
        gelu: written out with Erf or with Tanh, or as an operator of ONNX Runtime.
        norm: LayerNormalization as an operator, or written out.
        product: MatMul and Add, or Gemm between two Reshape. Only floats have both.
        shapes: constant shapes, or shapes that follow from Shape, Gather, Unsqueeze and Concat.
        precision: of the products.
    """

    scale: str = "divided scores"
    mask: str = "added"
    joint: str = "apart"
    gelu: str = "erf"
    norm: str = "operator"
    product: str = "matmul"
    shapes: str = "constant"
    precision: Precision = Precision.FLOAT


def draw_style(rng: Uniform, *, masks: Sequence[str] = MASKS) -> Style:
    """Draw each choice independently."""
    return Style(
        choose(rng, SCALES),
        choose(rng, masks),
        choose(rng, JOINTS),
        choose(rng, GELUS),
        choose(rng, NORMS),
        choose(rng, PRODUCTS),
        choose(rng, SHAPES),
        precision(rng),
    )


@dataclass(frozen=True, slots=True)
class Heads:
    """Sizes of an attention: samples, rows of the activation, their width, and heads."""

    batch: int
    tokens: int
    hidden: int
    heads: int

    @property
    def width(self) -> int:
        """Of one head."""
        return self.hidden // self.heads


def reshape(w: Writer, x: str, dims: Sequence[int], style: Style, *, like: str = "", kept: int = 2) -> str:
    """Reshape; where shapes are followed, the first ``kept`` dimensions are read from ``like`` (``x`` by default)."""
    if style.shapes == "constant" or not kept:
        return w.op("Reshape", x, w.values(*dims))
    sizes = [size_of(w, like or x, axis) for axis in range(kept)]
    sizes += [w.values(dim) for dim in dims[kept:]]
    return w.op("Reshape", x, w.op("Concat", *sizes, axis=0))


def size_of(w: Writer, x: str, axis: int) -> str:
    """The size of an axis as a vector of one element, as TorchScript reads it."""
    size = w.op("Gather", w.op("Shape", x), w.scalar(axis, "int64"), axis=0)
    return w.op("Unsqueeze", size, w.values(0))


def dense(w: Writer, x: str, rows: Sequence[int], inner: int, outer: int, style: Style, *, gain: float = 1.0) -> str:
    """Multiply the last axis by a weight and add a bias; ``rows`` are the sizes of the other axes."""
    if style.product == "matmul" or style.precision is not Precision.FLOAT:
        return linear(w, x, inner, outer, style.precision, gain=gain)
    flat = w.op("Reshape", x, w.values(-1, inner))
    y = w.op("Gemm", flat, w.weight(inner, outer, gain=gain), w.vector(outer), alpha=1.0, beta=1.0)
    return reshape(w, y, (*rows, outer), style, like=x, kept=len(rows))


def layer_norm(w: Writer, x: str, size: int, style: Style, epsilon: float = 1e-5) -> str:
    """Normalize the last axis, of that size."""
    scale, shift = w.vector(size, mean=1.0), w.vector(size)
    if style.norm == "operator":
        return w.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=epsilon)
    centred = w.op("Sub", x, w.op("ReduceMean", x, axes=(-1,)))
    variance = w.op("ReduceMean", w.op("Pow", centred, w.scalar(2.0)), axes=(-1,))
    deviation = w.op("Sqrt", w.op("Add", variance, w.scalar(epsilon)))
    return w.op("Add", w.op("Mul", w.op("Div", centred, deviation), scale), shift)


def gelu(w: Writer, x: str, style: Style) -> str:
    """Apply the Gaussian error linear unit."""
    if style.gelu == "operator":
        return w.op("Gelu", x, domain=MICROSOFT)
    if style.gelu == "fast operator":
        return w.op("FastGelu", x, domain=MICROSOFT)
    if style.gelu == "erf":
        y = w.op("Add", w.op("Erf", w.op("Div", x, w.scalar(math.sqrt(2)))), w.scalar(1.0))
        return w.op("Mul", w.op("Mul", x, y), w.scalar(0.5))
    half = w.op("Mul", x, w.scalar(0.5))
    cube = w.op("Mul", w.op("Pow", x, w.scalar(3.0)), w.scalar(0.044715))
    inner = w.op("Mul", w.op("Add", x, cube), w.scalar(math.sqrt(2 / math.pi)))
    return w.op("Mul", half, w.op("Add", w.op("Tanh", inner), w.scalar(1.0)))


def feed_forward(w: Writer, x: str, rows: Sequence[int], hidden: int, inner: int, style: Style) -> str:
    """Two products with GELU between them."""
    y = gelu(w, dense(w, x, rows, hidden, inner, style), style)
    return dense(w, y, rows, inner, hidden, style, gain=_BRANCH_GAIN)


def heads_first(w: Writer, x: str, size: Heads, heads: int, style: Style) -> str:
    """From rows of all heads to rows for each head."""
    apart = reshape(w, x, (size.batch, size.tokens, heads, size.width), style)
    return w.op("Transpose", apart, perm=(0, 2, 1, 3))


def queries_keys_values(w: Writer, x: str, size: Heads, style: Style) -> tuple[str, str, str]:
    """Project to queries, keys and values, each by heads."""
    rows, hidden = (size.batch, size.tokens), size.hidden
    if style.joint == "apart":
        q, k, v = (dense(w, x, rows, hidden, hidden, style) for _ in range(3))
        return tuple_of_heads(w, (q, k, v), size, style)
    joint = dense(w, x, rows, hidden, 3 * hidden, style)
    if style.joint == "split":
        q, k, v = w.ops("Split", joint, w.values(hidden, hidden, hidden), outputs=3, axis=2)
        return tuple_of_heads(w, (q, k, v), size, style)
    if style.joint == "slices":
        q, k, v = (
            w.op("Slice", joint, w.values(i * hidden), w.values((i + 1) * hidden), w.values(2)) for i in range(3)
        )
        return tuple_of_heads(w, (q, k, v), size, style)
    stacked = reshape(w, joint, (size.batch, size.tokens, 3, size.heads, size.width), style)
    stacked = w.op("Transpose", stacked, perm=(2, 0, 3, 1, 4))
    q, k, v = (w.op("Gather", stacked, w.scalar(i, "int64"), axis=0) for i in range(3))
    return q, k, v


def tuple_of_heads(w: Writer, qkv: tuple[str, str, str], size: Heads, style: Style) -> tuple[str, str, str]:
    """Queries, keys and values by heads."""
    q, k, v = (heads_first(w, x, size, size.heads, style) for x in qkv)
    return q, k, v


def attend(w: Writer, q: str, k: str, v: str, size: Heads, style: Style, masks: Masks) -> str:
    """Scores, their softmax, and the mean of the values; returns rows of all heads, before the last product."""
    root = math.sqrt(size.width)
    keys = w.op("Transpose", k, perm=(0, 1, 3, 2))
    if style.scale == "query":
        q = w.op("Div", q, w.scalar(root))
    elif style.scale == "roots":
        q, keys = (w.op("Mul", x, w.scalar(1 / math.sqrt(root))) for x in (q, keys))
    scores = w.op("MatMul", q, keys)
    if style.scale == "divided scores":
        scores = w.op("Div", scores, w.scalar(root))
    elif style.scale == "multiplied scores":
        scores = w.op("Mul", scores, w.scalar(1 / root))
    if masks.ignored:
        scores = w.op("Where", masks.ignored, w.scalar(LOWEST), scores)
    if masks.allowed:
        scores = w.op("Where", masks.allowed, scores, w.scalar(LOWEST))
    if masks.added:
        scores = w.op("Add", scores, masks.added)
    context = w.op("MatMul", w.op("Softmax", scores, axis=-1), v)
    context = w.op("Transpose", context, perm=(0, 2, 1, 3))
    return reshape(w, context, (size.batch, size.tokens, size.hidden), style)


@dataclass(frozen=True, slots=True)
class Masks:
    """What is masked in the scores of every layer: names of values, or empty.

    Attributes:
        added: what is added to the scores.
        ignored: where scores are replaced by the lowest number.
        allowed: where they are not.
    """

    added: str = ""
    ignored: str = ""
    allowed: str = ""


def padding_mask(w: Writer, mask: str, style: Style) -> Masks:
    """From a mask of integers, 1 for each token that counts, to what the scores need."""
    if style.mask == "none":
        return Masks()
    wide = w.op("Unsqueeze", w.op("Unsqueeze", mask, w.values(1)), w.values(2))
    if style.mask == "selected":
        return Masks(ignored=w.op("Equal", wide, w.scalar(0, "int64")))
    lost = w.op("Sub", w.scalar(1.0), w.op("Cast", wide, to=1))
    return Masks(added=w.op("Mul", lost, w.scalar(-10000.0)))


def attention(w: Writer, x: str, size: Heads, style: Style, masks: Masks) -> str:
    """Self-attention with as many keys as queries."""
    q, k, v = queries_keys_values(w, x, size, style)
    y = attend(w, q, k, v, size, style, masks)
    return dense(w, y, (size.batch, size.tokens), size.hidden, size.hidden, style, gain=_BRANCH_GAIN)


def bare(w: Writer, x: str, inner: int, outer: int, style: Style, *, gain: float = 1.0) -> str:
    """Multiply without a bias."""
    return product(w, x, inner, outer, style.precision, gain=gain)
