"""Operators that move data: tables, indices, padding, slices, transposes, sizes."""

from __future__ import annotations

import math

from sectum.lab.dataset.operator_kinds.sizes import MOST_ELEMENTS, Sizes, an_input
from sectum.zoo.program import Writer


def gather(s: Sizes, w: Writer) -> str:
    """Rows of a table, or parts of an activation along some axis."""
    if s.chance(0.6):
        width, rows = s.size(8, 1024), s.size(16, 60_000)
        rows = min(rows, (16 << 20) // width)
        indices = an_input(w, 1, s.size(1, 1024), dtype="int64")
        return w.op("Gather", w.weight(rows, width, fan_in=1), indices)
    shape = s.any_shape()
    axis = s.rng.randrange(1, len(shape))
    chosen = [s.rng.randrange(shape[axis]) for _ in range(s.size(1, 256))]
    return w.op("Gather", an_input(w, *shape), w.values(*chosen), axis=axis)


def gather_elements(s: Sizes, w: Writer) -> str:
    """Single elements or rows, picked or placed by indices."""
    rows, width = s.size(8, 4096), s.size(1, 512)
    form = s.one(0, 1, 2, 3)
    x = an_input(w, rows, width)
    if form == 0:
        return w.op("GatherElements", x, an_input(w, rows, width, dtype="int64"), axis=1)
    count = s.size(1, rows)
    if form == 3:
        indices = an_input(w, count, width, dtype="int64")
        adds = {"reduction": "add"} if s.chance(0.6) else {}
        return w.op("ScatterElements", x, indices, an_input(w, count, width), axis=0, **adds)
    indices = an_input(w, count, 1, dtype="int64")
    if form == 1:
        return w.op("GatherND", x, indices)
    return w.op("ScatterND", x, indices, an_input(w, count, width))


def one_hot(s: Sizes, w: Writer) -> str:
    """Indices as one-hot vectors."""
    count, depth = s.size(1, 4096), s.size(2, 1024)
    indices = an_input(w, 1, min(count, MOST_ELEMENTS // depth), dtype="int64")
    return w.op("OneHot", indices, w.scalar(depth, "int64"), w.values(0.0, 1.0, dtype="float32"))


def pad(s: Sizes, w: Writer) -> str:
    """Padding at some axes, by a constant, by the edge or reflected."""
    shape = s.any_shape()
    mode = s.rng.choice(("constant", "constant", "reflect", "edge"))
    most = [min(32, size - 1) if mode == "reflect" else 32 for size in shape]
    axes = [axis for axis in range(1, len(shape)) if s.chance(0.6)]
    before = [s.one(0, 1, 2, most[axis]) if axis in axes else 0 for axis in range(len(shape))]
    before = [min(amount, most[axis]) for axis, amount in enumerate(before)]
    before[-1] = before[-1] or min(1, most[-1])
    return w.op("Pad", an_input(w, *shape), w.values(*before, *before), mode=mode)


def cut(s: Sizes, w: Writer) -> str:
    """A part of a tensor along one axis, with steps or without."""
    shape = s.any_shape()
    axis = s.rng.choice([axis for axis, size in enumerate(shape) if size == max(shape)])
    step = s.one(1, 1, 1, 2, 2, 4, -1)
    size = shape[axis]
    start, end = (size - 1, -size - 1) if step < 0 else (s.rng.randrange(max(1, size // 2)), size)
    if s.chance(0.3) and size % 2 == 0:
        return w.ops("Split", an_input(w, *shape), w.values(size // 2, size - size // 2), outputs=2, axis=axis)[0]
    return w.op("Slice", an_input(w, *shape), w.values(start), w.values(end), w.values(axis), w.values(step))


def concat(s: Sizes, w: Writer) -> str:
    """Tensors joined along some axis."""
    shape = s.any_shape(MOST_ELEMENTS // 4)
    axis = s.rng.randrange(1, len(shape))
    return w.op("Concat", *(an_input(w, *shape) for _ in range(s.one(2, 2, 3, 4))), axis=axis)


def transpose(s: Sizes, w: Writer) -> str:
    """Axes in another order."""
    shape = s.shape(s.one(2, 3, 3, 4, 4, 5))
    order = list(range(len(shape)))
    while order == sorted(order):
        s.rng.shuffle(order)
    dtype = s.rng.choice(("float32", "float32", "float32", "uint8", "int64"))
    return w.op("Transpose", an_input(w, *shape, dtype=dtype), perm=tuple(order))


def spread_out(s: Sizes, w: Writer) -> str:
    """A tensor repeated along some axis."""
    shape = s.any_shape(MOST_ELEMENTS // 8)
    axis = s.rng.randrange(len(shape))
    times = s.one(2, 2, 4, 8)
    if s.chance():
        return w.op("Tile", an_input(w, *shape), w.values(*(times if at == axis else 1 for at in range(len(shape)))))
    stretched = range(axis, min(len(shape), axis + s.one(1, 1, 2)))
    narrow = [1 if at in stretched else size for at, size in enumerate(shape)]
    wide = [s.size(2, 256) if at in stretched else size for at, size in enumerate(shape)]
    while math.prod(wide) > MOST_ELEMENTS:
        wide = [max(2, n // 2) if at in stretched else n for at, n in enumerate(wide)]
    return w.op("Expand", an_input(w, *narrow), w.values(*wide))


def blocks_moved(s: Sizes, w: Writer) -> str:
    """Depth to space, or back."""
    block, channels, side = s.one(2, 2, 4), s.size(1, 64), s.size(4, 128)
    if s.chance():
        return w.op("DepthToSpace", an_input(w, 1, channels * block**2, side, side), blocksize=block)
    return w.op("SpaceToDepth", an_input(w, 1, channels, side * block, side * block), blocksize=block)


def resize(s: Sizes, w: Writer) -> str:
    """A feature map, or a signal, of another size."""
    space = s.one(1, 2, 2, 2, 3)
    shape = s.shape(2 + space, MOST_ELEMENTS // 4, least_last=2)
    scale = s.rng.choice((2.0, 2.0, 3.0, 4.0, 1.5, 0.5))
    shape = (*shape[:2], *(max(2, size) for size in shape[2:]))
    mode = s.rng.choice(("nearest", "linear", "linear", "cubic") if space == 2 else ("nearest", "linear"))
    scales = w.values(1.0, 1.0, *([scale] * space), dtype="float32")
    how = s.rng.choice(("asymmetric", "half_pixel", "align_corners" if mode != "nearest" else "asymmetric"))
    return w.op("Resize", an_input(w, *shape), "", scales, mode=mode, coordinate_transformation_mode=how)


def fourier(s: Sizes, w: Writer) -> str:
    """A Fourier transform of a signal's frames."""
    frame = s.one(256, 400, 512, 512, 1024)
    hop, frames = frame // s.one(2, 4), s.size(2, 200)
    signal = an_input(w, 1, frame + hop * (frames - 1), 1)
    window = w.vector(frame, mean=0.5)
    return w.op("STFT", signal, w.scalar(hop, "int64"), window, w.scalar(frame, "int64"), onesided=1)


def boxes(s: Sizes, w: Writer) -> str:
    """Samples of a feature map at given places."""
    channels, side, made = s.size(1, 128), s.size(4, 128), s.size(4, 128)
    mode = s.rng.choice(("bilinear", "nearest"))
    grid = an_input(w, 1, made, made, 2)
    return w.op("GridSample", an_input(w, 1, channels, side, side), grid, mode=mode, align_corners=s.one(0, 1))
