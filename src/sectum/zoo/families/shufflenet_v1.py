"""ShuffleNet V1 (Zhang et al. 2017, arXiv 1707.01083, table 1): pointwise convolutions in groups, and shuffles."""

from __future__ import annotations

from functools import partial

from sectum.zoo.architecture import Builder
from sectum.zoo.blocks import average_pool, classifier, conv_bn, depthwise_bn, max_pool, relu
from sectum.zoo.families.family import Family
from sectum.zoo.layers import Add, ChannelShuffle, Concat
from sectum.zoo.variation import Drawn, Grid, Variation

STAGE_REPEATS = (4, 8, 4)
STEM_CHANNELS = 24
BOTTLENECK = 4

# Channels of the three stages by groups: more groups, more channels for the same number of multiplications.
WIDTHS = {
    1: (144, 288, 576), 2: (200, 400, 800), 3: (240, 480, 960), 4: (272, 544, 1088), 8: (384, 768, 1536),
}  # fmt: skip


def shufflenet_v1(b: Builder, v: Variation, classes: int, *, groups: int) -> int:
    """Wire a ShuffleNet V1.

    The first unit of a stage puts the channels of its branch beside those that enter, pooled. It is the branch's
    that vary, so that drawn stages can differ in any way; the stage's other units are sums and keep what there is.
    """
    with b.scope("stem"):
        x = conv_bn(b, b.input, v.channels(STEM_CHANNELS, groups), v.kernel(3), 2)
        x = max_pool(b, x, 3, 2, 1)
    entering = STEM_CHANNELS
    for number, (repeats, published) in enumerate(zip(STAGE_REPEATS, WIDTHS[groups], strict=True)):
        for index in range(repeats):
            inner = v.channels(published // BOTTLENECK, groups)
            out = b.channels(x) if index else v.channels(published - entering, groups)
            with b.scope(f"stage{number}.unit{index}"):
                x = _unit(b, x, inner, out, v.kernel(3), groups, halve=index == 0, first=number == index == 0)
        entering = published
    return classifier(b, x, classes)


def _unit(b: Builder, x: int, inner: int, out: int, kernel: int, groups: int, *, halve: bool, first: bool) -> int:
    """Join a branch of ``out`` channels with its input: beside it, pooled, where the map is halved; else in a sum."""
    y = conv_bn(b, x, inner, groups=1 if first else groups)  # the stem's channels are too few to be grouped
    if groups > 1:
        y = b.add(ChannelShuffle(groups), y)
    y = depthwise_bn(b, y, kernel, 2 if halve else 1, None)
    y = conv_bn(b, y, out, act=None, groups=groups)
    return relu(b, b.add(Concat(), y, average_pool(b, x, 3, 2, 1)) if halve else b.add(Add(), y, x))


def draw(b: Builder, v: Drawn, classes: int) -> int:
    """Wire a random ShuffleNet V1: its groups are drawn too."""
    return shufflenet_v1(b, v, classes, groups=v.choose(tuple(WIDTHS)))


FAMILY = Family(
    "shufflenet_v1",
    {f"shufflenet_v1_g{groups}": partial(shufflenet_v1, groups=groups) for groups in WIDTHS},
    draw,
    Grid(kernels=(3, 5, 7)),
)
