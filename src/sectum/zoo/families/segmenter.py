"""Networks that give every pixel, or every voxel, a class."""

from __future__ import annotations

from functools import partial

from sectum.zoo.families.family import ProgramFamily
from sectum.zoo.feature_maps import Draws, Layers, draw
from sectum.zoo.precision import Precision
from sectum.zoo.program import Writer


def _pair_of_convs(n: Layers, x: str, out: int, act: str, norm: str) -> str:
    for _ in range(2):
        if n.static or not norm:
            x = n.conv(x, out, 3, act=act)
        else:
            x = n.act(n.norm(n.conv(x, out, 3, bias=norm == "InstanceNormalization"), norm), act)
    return x


def _unet(n: Layers, d: Draws, width: float) -> None:
    """Halves and doubles: the published network and its relatives on images."""
    n.precision = d.precision(Precision.STATIC)
    n.quantize_all = n.static and d.chance(0.5)
    depth, act = d.of(2, 3, 4, 4), d.of("Relu", "Relu", "LeakyRelu", "SiLU", "Elu")
    norm = d.of("", "BatchNormalization", "BatchNormalization", "InstanceNormalization")
    size = 2**depth * max(2, d.size(64, 512) // 2**depth)
    base = max(4, round(d.size(8, 64, 4) * width))
    x = n.input("image", n.batch, d.of(1, 3, 3, 4), size, size)
    enlarge = d.of("transposed", "nearest", "linear")
    skips = []
    for level in range(depth):
        x = _pair_of_convs(n, x, base * 2**level, act, norm)
        skips.append(x)
        x = n.pool(x, 2) if d.chance(0.8) else n.conv(x, n.channels(x), 3, 2, act=act)
    x = _pair_of_convs(n, x, base * 2**depth, act, norm)
    for level in reversed(range(depth)):
        out = base * 2**level
        if enlarge == "transposed":
            x = n.transposed(x, out, 2, 2)
        else:
            x = n.resize(x, 2, enlarge)
            x = n.conv(x, out, d.of(1, 3)) if d.chance(0.5) else x
        x = _pair_of_convs(n, n.concat(skips[level], x), out, act, norm)
    x = n.conv(x, d.of(1, 2, 4, 21), 1)
    n.output(_classes(n, d, x))


def _classes(n: Layers, d: Draws, x: str) -> str:
    if n.channels(x) == 1:
        return n.same("Sigmoid", x)
    return n.same("Softmax", x, axis=1) if d.chance(0.6) else x


def _dilated(n: Layers, d: Draws, width: float) -> None:
    """A residual network with dilations, a pyramid of dilations, and an enlargement: as DeepLab."""
    n.precision = d.precision(Precision.STATIC)
    n.quantize_all = n.static
    size = 16 * d.size(8, 33)
    base = max(4, round(d.size(8, 48, 4) * width))
    x = n.input("image", n.batch, 3, size, size)
    x = n.conv(x, base, d.of(3, 7), 2, act="Relu")
    x = n.pool(x, 3, 2, pad=1)
    for out, stride, dilation in ((base, 1, 1), (2 * base, 2, 1), (4 * base, 1, 2), (8 * base, 1, 4)):
        for index in range(d.of(1, 2)):
            step = stride if index == 0 else 1
            y = n.conv(n.conv(x, out, 3, step, act="Relu"), out, 3, dilation=dilation)
            side = x if n.shapes[x] == n.shapes[y] else n.conv(x, out, 1, step)
            x = n.add(y, side)
            x = n.same("Relu", x) if not n.static else n.conv(x, out, 1, act="Relu")
    low, inner = x, 4 * base
    parts = [n.conv(low, inner, 1, act="Relu")]
    parts += [n.conv(low, inner, 3, dilation=rate, act="Relu") for rate in d.of((6, 12), (6, 12, 18), (3, 6, 9))]
    whole = n.mean(low)
    whole = n.conv(whole, inner, 1, act="Relu")
    shape = n.shapes[low]
    sizes = n.w.values(shape[0], inner, *shape[2:])
    parts.append(n.op("Resize", (shape[0], inner, *shape[2:]), whole, "", "", sizes, mode="linear",
                      coordinate_transformation_mode="half_pixel"))  # fmt: skip
    x = n.conv(n.concat(*parts), inner, 1, act="Relu")
    x = n.conv(x, d.of(2, 19, 21), 1)
    n.output(n.resize(x, 8, "linear"))


def _volume(n: Layers, d: Draws, width: float) -> None:
    """A U-Net on volumes."""
    depth, act = d.of(1, 2, 3), d.of("Relu", "LeakyRelu", "Elu")
    norm = d.of("", "BatchNormalization", "InstanceNormalization", "InstanceNormalization")
    size = 2**depth * max(2, d.size(12, 64) // 2**depth)
    base = max(2, round(d.size(4, 24, 2) * width))
    x = n.input("volume", n.batch, d.of(1, 1, 2, 4), size, size, size)
    skips = []
    for level in range(depth):
        x = _pair_of_convs(n, x, base * 2**level, act, norm)
        skips.append(x)
        x = n.pool(x, 2)
    x = _pair_of_convs(n, x, base * 2**depth, act, norm)
    for level in reversed(range(depth)):
        out = base * 2**level
        x = n.transposed(x, out, 2, 2)
        x = _pair_of_convs(n, n.concat(x, skips[level]), out, act, norm)
    n.output(_classes(n, d, n.conv(x, d.of(1, 2, 4), 1)))


def _random(n: Layers, d: Draws, width: float) -> None:
    d.of(_unet, _unet, _dilated, _volume)(n, d, width)


def unet(base: int, w: Writer, batch: int) -> None:
    """Write U-Net (Ronneberger et al. 2015) with padding, as the tables of U-Net++ compare it, on 96 by 96 pixels."""
    n = Layers(w, batch)
    x = n.input("image", batch, 3, 96, 96)
    skips = []
    for level in range(4):
        x = _pair_of_convs(n, x, base * 2**level, "Relu", "")
        skips.append(x)
        x = n.pool(x, 2)
    x = _pair_of_convs(n, x, base * 16, "Relu", "")
    for level in reversed(range(4)):
        out = base * 2**level
        x = _pair_of_convs(n, n.concat(n.transposed(x, out, 2, 2), skips[level]), out, "Relu", "")
    n.output(n.same("Sigmoid", n.conv(x, 1, 1)))


FAMILY = ProgramFamily("segmenter", {"unet_32": partial(unet, 32)}, partial(draw, _random))
