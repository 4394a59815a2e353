"""EfficientNet B0-B4 (Tan and Le 2019), as in torchvision.models.efficientnet."""

from __future__ import annotations

import math
from functools import partial

from sectum.zoo.architecture import Builder
from sectum.zoo.blocks import classifier, conv_bn, depthwise_bn, squeeze_excite
from sectum.zoo.families.family import Family
from sectum.zoo.layers import Add, Nonlinearity
from sectum.zoo.variation import Drawn, Grid, Variation, make_divisible

SILU, SIGMOID = Nonlinearity.SILU, Nonlinearity.SIGMOID

# Expansion, kernel, stride, output channels and blocks of each stage of B0.
STAGES = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
)  # fmt: skip

# Width and depth multipliers, and the resolution that each was published for.
SCALES = {
    "efficientnet_b0": (1.0, 1.0, 224), "efficientnet_b1": (1.0, 1.1, 240),
    "efficientnet_b2": (1.1, 1.2, 260), "efficientnet_b3": (1.2, 1.4, 300),
    "efficientnet_b4": (1.4, 1.8, 380),
}  # fmt: skip


# Inner channels of a squeeze-and-excitation are the block's entering channels over this; 0 for none.
SQUEEZE = 4
DRAWN_SQUEEZES = (0, 4, 8)


def efficientnet(b: Builder, v: Variation, classes: int, *, wide: float, deep: float) -> int:
    """Wire an EfficientNet. A drawn network draws for each stage whether its blocks squeeze, and how far."""
    with b.scope("stem"):
        x = conv_bn(b, b.input, v.channels(make_divisible(32 * wide)), v.kernel(3), 2, SILU)
    for number, (expand, kernel, first_stride, published, repeats) in enumerate(STAGES):
        out = v.channels(make_divisible(published * wide))
        squeeze = v.choose(DRAWN_SQUEEZES) if isinstance(v, Drawn) else SQUEEZE
        for index in range(math.ceil(repeats * deep)):
            with b.scope(f"stage{number}.block{index}"):
                stride = first_stride if index == 0 else 1
                factor = v.expand(expand) if expand != 1 else 1
                x = _block(b, x, factor, out, v.kernel(kernel), stride, squeeze)
    with b.scope("last"):
        x = conv_bn(b, x, v.channels(make_divisible(1280 * wide)), act=SILU)
    return classifier(b, x, classes)


def _block(b: Builder, x: int, expand: float, out: int, kernel: int, stride: int, squeeze: int) -> int:
    entering = b.channels(x)
    y = conv_bn(b, x, make_divisible(entering * expand), act=SILU) if expand != 1 else x
    y = depthwise_bn(b, y, kernel, stride, SILU)
    if squeeze:
        y = squeeze_excite(b, y, max(1, entering // squeeze), SILU, SIGMOID)
    y = conv_bn(b, y, out, act=None)
    return b.add(Add(), y, x) if stride == 1 and entering == out else y


def draw(b: Builder, v: Drawn, classes: int) -> int:
    """Wire a random EfficientNet, as wide as one of the published and as deep as another."""
    widths, depths, _ = zip(*SCALES.values(), strict=True)
    return efficientnet(b, v, classes, wide=v.choose(widths), deep=v.choose(depths))


FAMILY = Family(
    "efficientnet",
    {name: partial(efficientnet, wide=wide, deep=deep) for name, (wide, deep, _) in SCALES.items()},
    draw,
    Grid(kernels=(3, 5, 7), expands=(2, 3, 4, 6)),
    resolutions={name: resolution for name, (_, _, resolution) in SCALES.items()},
)
