"""ConvNeXt-Tiny (Liu et al. 2022), as in torchvision.models.convnext."""

from __future__ import annotations

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
from sectum.zoo.variation import Variation

# Blocks and channels of each stage.
STAGES = ((3, 96), (3, 192), (9, 384), (3, 768))
EXPANSION = 4


def convnext_tiny(b: Builder, v: Variation, classes: int) -> int:
    """Wire a ConvNeXt-Tiny; its blocks are channels-last between depthwise convolution and sum."""
    x = b.input
    for number, (count, published) in enumerate(STAGES):
        channels = v.channels(published)
        with b.scope(f"down{number}"):
            if number == 0:
                x = _norm(b, conv(b, x, channels, 4, 4, padding=0, bias=True))
            else:
                x = conv(b, _norm(b, x), channels, 2, 2, padding=0, bias=True)
        for index in range(count):
            with b.scope(f"stage{number}.block{index}"):
                x = _block(b, x, v.kernel(7))
    with b.scope("head"):
        x = b.add(Flatten(), _norm(b, b.add(GlobalAveragePool(), x)))
        return b.add(Linear(classes), x)


def _norm(b: Builder, x: int) -> int:
    x = b.add(LayerNorm(), b.add(Permute(channels_last=True), x))
    return b.add(Permute(channels_last=False), x)


def _block(b: Builder, x: int, kernel: int) -> int:
    channels = b.channels(x)
    y = conv(b, x, channels, kernel, groups=channels, bias=True)
    y = b.add(LayerNorm(), b.add(Permute(channels_last=True), y))
    y = b.add(Linear(EXPANSION * channels), y)
    y = b.add(Activation(Nonlinearity.GELU), y, name="act")
    y = b.add(Permute(channels_last=False), b.add(Linear(channels), y))
    return b.add(Add(), x, b.add(ChannelScale(), y))


FAMILY = Family("convnext", {"convnext_tiny": convnext_tiny})
