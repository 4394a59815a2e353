"""Operators that go along an axis: reductions, pools, normalizations."""

from __future__ import annotations

from typing import Any

from sectum.lab.dataset.operator_kinds.sizes import MOST_ELEMENTS, Sizes, an_input, fitting
from sectum.zoo.program import MICROSOFT, Writer

_REDUCTIONS = (
    "ReduceMean", "ReduceMean", "ReduceMean", "ReduceSum", "ReduceSum", "ReduceMax", "ReduceMax", "ReduceMin",
    "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "ArgMax", "ArgMin",
)  # fmt: skip


def reduction(s: Sizes, w: Writer) -> str:
    """A sum, a mean, an extremum over some axes."""
    kind, shape = s.rng.choice(_REDUCTIONS), s.any_shape()
    axis = s.rng.choice((-1, -1, 1, len(shape) - 2))
    axis %= len(shape)
    x = an_input(w, *shape)
    if kind.startswith("Arg"):
        return w.op(kind, x, axis=axis, keepdims=s.one(0, 1))
    axes = (axis,) if s.chance(0.7) or len(shape) < 4 else (2, 3)
    if kind == "ReduceSum":
        return w.op(kind, x, w.values(*axes), keepdims=s.one(0, 1))
    return w.op(kind, x, axes=axes, keepdims=s.one(0, 1))


def selection(s: Sizes, w: Writer) -> str:
    """The largest values, or running sums."""
    rows, size = s.size(1, 256), s.size(8, 10_000)
    x = an_input(w, rows, size)
    if s.chance():
        return w.op("CumSum", x, w.scalar(1, "int64"))
    return w.ops("TopK", x, w.values(min(size, s.one(1, 5, 100))), outputs=2)[0]


def pool(s: Sizes, w: Writer) -> str:
    """A window's maximum or average over one, two or three dimensions."""
    space = s.one(1, 1, 2, 2, 3)
    shape = s.shape(2 + space, least_last=4)
    shape = (*shape[:2], *(max(4, size) for size in shape[2:]))
    if s.chance(0.25):
        return w.op(s.rng.choice(("GlobalMaxPool", "GlobalAveragePool")), an_input(w, *shape))
    kernel = s.one(2, 3, 3, 4)
    stride = s.one(1, 2, 2, kernel)
    window: dict[str, Any] = {"kernel_shape": (kernel,) * space, "strides": (stride,) * space}
    return w.op(s.rng.choice(("MaxPool", "AveragePool")), an_input(w, *shape), **window)


def softmax(s: Sizes, w: Writer) -> str:
    """Softmax over short and long axes, the last one or another."""
    shape = s.any_shape()
    axis = -1 if s.chance(0.7) else 1
    return w.op(s.rng.choice(("Softmax", "Softmax", "LogSoftmax")), an_input(w, *shape), axis=axis)


def normalization(s: Sizes, w: Writer) -> str:
    """A normalization over the last axis, with or without the sum before it."""
    rows, width = fitting(s, lambda r, c: 64 * r * c, (1, 4096), (8, 4096))
    shape = (1, min(rows, MOST_ELEMENTS // width), width)
    x, scale = an_input(w, *shape), w.vector(width, mean=1.0)
    form = s.one(0, 0, 1, 1, 2, 3, 4)
    if form == 0:
        return w.op("LayerNormalization", x, scale, w.vector(width), axis=-1)
    if form == 1:
        more = [w.vector(width)] if s.chance() else []
        other = an_input(w, *shape)
        return w.ops("SkipLayerNormalization", x, other, scale, w.vector(width), *more, outputs=1, domain=MICROSOFT)[0]
    if form == 2:
        return w.op("SimplifiedLayerNormalization", x, scale, axis=-1)
    if form == 3:
        return w.op("SkipSimplifiedLayerNormalization", x, an_input(w, *shape), scale, domain=MICROSOFT)
    return w.op("LpNormalization", x, axis=-1, p=2)


def channel_normalization(s: Sizes, w: Writer) -> str:
    """A normalization of whole channels."""
    shape = s.shape(s.one(3, 4, 4), least_last=2)
    channels = shape[1]
    scale, shift = w.vector(channels, mean=1.0), w.vector(channels)
    if s.chance(0.6):
        return w.op("InstanceNormalization", an_input(w, *shape), scale, shift)
    mean, variance = w.vector(channels), w.vector(channels, mean=1.0, spread=0.01)
    return w.op("BatchNormalization", an_input(w, *shape), scale, shift, mean, variance)
