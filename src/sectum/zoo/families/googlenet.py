"""GoogLeNet (Szegedy et al. 2014) as in torchvision: batch normalisation, no auxiliary heads, 3x3 for 5x5."""

from __future__ import annotations

from sectum.zoo.architecture import Builder
from sectum.zoo.blocks import classifier, conv_bn, max_pool
from sectum.zoo.families.family import Family
from sectum.zoo.layers import Concat
from sectum.zoo.variation import Grid, Variation, steps

EPSILON = 1e-3

# Channels of the four branches: 1x1; 1x1 then 3x3; 1x1 then 3x3 (named 5x5 in the paper); pool then 1x1.
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64), "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128), "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}  # fmt: skip


def googlenet(b: Builder, v: Variation, classes: int) -> int:
    """Wire a GoogLeNet."""
    with b.scope("stem"):
        x = _conv(b, b.input, v.channels(64), v.kernel(7), 2)
        x = max_pool(b, x, 3, 2, ceil=True)
        x = _conv(b, x, v.channels(64))
        x = _conv(b, x, v.channels(192), v.kernel(3))
        x = max_pool(b, x, 3, 2, ceil=True)
    for name, widths in INCEPTIONS.items():
        if name == "4a":
            x = max_pool(b, x, 3, 2, ceil=True)
        elif name == "5a":
            x = max_pool(b, x, 2, 2, ceil=True)
        with b.scope(f"inception{name}"):
            x = _inception(b, v, x, widths)
    return classifier(b, x, classes)


def _conv(b: Builder, x: int, out_channels: int, kernel: int = 1, stride: int = 1) -> int:
    return conv_bn(b, x, out_channels, kernel, stride, epsilon=EPSILON)


def _inception(b: Builder, v: Variation, x: int, widths: tuple[int, ...]) -> int:
    direct, reduce3, out3, reduce5, out5, pooled = widths
    branches = [_conv(b, x, v.channels(direct))]
    for reduced, out in ((reduce3, out3), (reduce5, out5)):
        inner = max(1, round(v.channels(reduced) * v.expand(1.0)))
        branches.append(_conv(b, _conv(b, x, inner), v.channels(out), v.kernel(3)))
    branches.append(_conv(b, max_pool(b, x, 3, 1, 1, ceil=True), v.channels(pooled)))
    return b.add(Concat(), *branches)


FAMILY = Family(
    "googlenet",
    {"googlenet": googlenet},
    googlenet,
    Grid(expands=steps(0.8, 1.8), expand_factors=True),
)
