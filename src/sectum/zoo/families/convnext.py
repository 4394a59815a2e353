"""ConvNeXt (Liu et al. 2022), as in torchvision.models.convnext."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from sectum.zoo.architecture import Builder
from sectum.zoo.blocks import conv
from sectum.zoo.families.family import Family
from sectum.zoo.layers import (
    Activation,
    Add,
    ChannelScale,
    Flatten,
    GlobalAveragePool,
    LayerNorm,
    Linear,
    Nonlinearity,
    Permute,
)
from sectum.zoo.variation import Drawn, Grid, Variation, steps


@dataclass(frozen=True, slots=True)
class Plan:
    """Blocks and channels of each stage."""

    blocks: tuple[int, ...]
    channels: tuple[int, ...]


TINY = Plan((3, 3, 9, 3), (96, 192, 384, 768))
# The smaller members that timm added: Atto, Pico and Nano.
SMALLER = (
    Plan((2, 2, 6, 2), (40, 80, 160, 320)), Plan((2, 2, 6, 2), (64, 128, 256, 512)),
    Plan((2, 2, 8, 2), (80, 160, 320, 640)),
)  # fmt: skip
EXPANSION = 4
DEPTHS = steps(0.4, 1.4, 0.2)


def convnext(b: Builder, v: Variation, classes: int, *, plan: Plan) -> int:
    """Wire a ConvNeXt; its blocks are channels-last between depthwise convolution and sum."""
    x = b.input
    for number, (count, published) in enumerate(zip(plan.blocks, plan.channels, strict=True)):
        channels = v.channels(published)
        with b.scope(f"down{number}"):
            if number == 0:
                x = _norm(b, conv(b, x, channels, 4, 4, padding=0, bias=True))
            else:
                x = conv(b, _norm(b, x), channels, 2, 2, padding=0, bias=True)
        for index in range(count):
            with b.scope(f"stage{number}.block{index}"):
                x = _block(b, x, v.kernel(7), v.expand(EXPANSION))
    with b.scope("head"):
        x = b.add(Flatten(), _norm(b, b.add(GlobalAveragePool(), x)))
        return b.add(Linear(classes), x)


def _norm(b: Builder, x: int) -> int:
    x = b.add(LayerNorm(), b.add(Permute(channels_last=True), x))
    return b.add(Permute(channels_last=False), x)


def _block(b: Builder, x: int, kernel: int, expand: float) -> int:
    channels = b.channels(x)
    y = conv(b, x, channels, kernel, groups=channels, bias=True)
    y = b.add(LayerNorm(), b.add(Permute(channels_last=True), y))
    y = b.add(Linear(round(expand * channels)), y)
    y = b.add(Activation(Nonlinearity.GELU), y, name="act")
    y = b.add(Permute(channels_last=False), b.add(Linear(channels), y))
    return b.add(Add(), x, b.add(ChannelScale(), y))


def draw(b: Builder, v: Drawn, classes: int) -> int:
    """Wire a random ConvNeXt around Tiny or a smaller one; the depth of each stage is drawn too."""
    plan = v.choose((*SMALLER, TINY))
    blocks = (max(1, round(count * v.choose(DEPTHS))) for count in plan.blocks)
    return convnext(b, v, classes, plan=replace(plan, blocks=tuple(blocks)))


FAMILY = Family(
    "convnext",
    {"convnext_tiny": partial(convnext, plan=TINY)},
    draw,
    Grid(steps(0.2, 1.4), (3, 5, 7, 9), (2, 3, 4)),
)
