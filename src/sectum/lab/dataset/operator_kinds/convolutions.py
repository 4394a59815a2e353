"""Convolutions of one, two and three dimensions, in floats and in 8 bits."""

from __future__ import annotations

import math
from typing import Any

from sectum.lab.dataset.operator_kinds.sizes import MOST_ELEMENTS, MOST_PRODUCTS, Sizes, an_input
from sectum.zoo.program import Writer


def conv(s: Sizes, w: Writer, *, space: int, transposed: bool = False, kind: str = "usual") -> str:
    """A convolution over one, two or three dimensions."""
    longest = {1: 50_000, 2: 256, 3: 48}[space]
    widest = {1: 512, 2: 96, 3: 7}[space]
    while True:
        length = s.size(4, longest)
        kernel = s.size(9, widest) if kind == "long" and space < 3 else s.one(1, 3, 3, 5, 7, 9)
        groups = 1
        into, out = s.size(1, 512), s.size(1, 512)
        if kind == "depthwise":
            groups = into = out = s.size(4, 512)
        elif s.chance(0.2):
            groups = s.one(2, 4, 8)
            into, out = into * groups, out * groups
        stride = s.size(1, min(kernel, 160)) if space == 1 and kind == "long" else s.one(1, 1, 1, 2, 2, 3, 4)
        dilation = s.one(1, 1, 1, 2, 4, 8) if kernel > 1 and not transposed else 1
        reach = dilation * (kernel - 1) + 1
        pad = 0 if s.chance(0.3) or transposed else reach // 2
        one_sided = space == 2 and s.chance(0.3)
        column = one_sided and s.chance(0.4)  # a signal that is written as a picture of width 1
        kernels = (kernel,) * (space - 1) + (1 if one_sided else kernel,)
        lengths = (length * 8, 1) if column else (length,) * space
        if reach > length + 2 * pad or (transposed and stride > kernel):
            continue
        made = [_made(n, kernel, stride, dilation, 0 if at and one_sided else pad, transposed)
                for at, (n, kernel) in enumerate(zip(lengths, kernels, strict=True))]  # fmt: skip
        taps = into * out // groups * math.prod(kernels)
        products = taps * math.prod(lengths if transposed else made)
        if products <= MOST_PRODUCTS and max(out * math.prod(made), into * math.prod(lengths)) <= MOST_ELEMENTS:
            break
    pads = [pad] * (space - 1) + [0 if one_sided else pad]
    x = an_input(w, 1, into, *lengths)
    attributes: dict[str, Any] = {"strides": (stride,) * space, "group": groups, "kernel_shape": kernels}
    if transposed:
        weight = w.weight(into, out // groups, *kernels)
        return w.op("ConvTranspose", x, weight, *([w.vector(out)] if s.chance() else []), **attributes)
    weight = w.weight(out, into // groups, *kernels)
    bias = [w.vector(out)] if s.chance() else []
    return w.op("Conv", x, weight, *bias, pads=(*pads, *pads), dilations=(dilation,) * space, **attributes)


def _made(length: int, kernel: int, stride: int, dilation: int, pad: int, transposed: bool) -> int:
    """Length of a result."""
    return length * stride if transposed else (length + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1


def quantized_conv(s: Sizes, w: Writer, *, depthwise: bool = False) -> str:
    """A convolution of 8-bit integers, scaled back to 8 bits or not."""
    while True:
        length, kernel, stride = s.size(4, 256), s.one(1, 1, 3, 3, 5, 7), s.one(1, 1, 1, 2)
        into, out = s.size(1, 512), s.size(4, 512)
        groups = 1
        if depthwise:
            groups = into = out = s.size(4, 512)
        made = (length - 1) // stride + 1
        products = out * made * made * into // groups * kernel * kernel
        if kernel <= length and products <= MOST_PRODUCTS and max(into * length**2, out * made**2) <= MOST_ELEMENTS:
            break
    signed = "int8" if s.chance(0.25) else "uint8"
    whole = "int8" if signed == "int8" else s.whole()
    x, weight = (
        an_input(w, 1, into, length, length, dtype=signed),
        w.weight(out, into // groups, kernel, kernel, dtype=whole),
    )
    window: dict[str, Any] = {
        "kernel_shape": (kernel, kernel), "pads": (kernel // 2,) * 4, "strides": (stride, stride), "group": groups,
    }  # fmt: skip
    if s.chance(0.35):
        return w.op(
            "ConvInteger", x, weight, w.scalar(0, signed), w.scalar(128 if whole == "uint8" else 0, whole), **window
        )
    bias = [w.values(*([0] * out), dtype="int32")] if s.chance(0.7) else []
    scale = w.scalar(0.02)
    zero = w.scalar(0, signed)
    return w.op("QLinearConv", x, scale, zero, weight, scale, w.scalar(0, whole), scale, zero, *bias, **window)
