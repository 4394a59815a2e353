"""ShuffleNet V2 (Ma et al. 2018), as in torchvision.models.shufflenetv2."""

from __future__ import annotations

from functools import partial

from sectum.zoo.architecture import Builder
from sectum.zoo.blocks import classifier, conv_bn, depthwise_bn, max_pool
from sectum.zoo.families.family import Family
from sectum.zoo.layers import ChannelShuffle, Concat, Split
from sectum.zoo.variation import Drawn, Grid, Variation, steps

STAGE_REPEATS = (4, 8, 4)
STEM_CHANNELS = 24

# Channels of the three stages and of the last convolution.
WIDTHS = {
    "shufflenet_v2_x0_5": (48, 96, 192, 1024),
    "shufflenet_v2_x1_0": (116, 232, 464, 1024),
    "shufflenet_v2_x1_5": (176, 352, 704, 1024),
    "shufflenet_v2_x2_0": (244, 488, 976, 2048),
}
INNER_MULTIPLIERS = steps(0.2, 1.8)


def shufflenet_v2(b: Builder, v: Variation, classes: int, *, widths: tuple[int, int, int, int]) -> int:
    """Wire a ShuffleNet V2."""
    with b.scope("stem"):
        x = conv_bn(b, b.input, v.channels(STEM_CHANNELS), v.kernel(3), 2)
        x = max_pool(b, x, 3, 2, 1)
    for number, (repeats, published) in enumerate(zip(STAGE_REPEATS, widths[:3], strict=True)):
        half = v.channels(published, 2) // 2
        for index in range(repeats):
            with b.scope(f"stage{number}.block{index}"):
                inner = half
                if isinstance(v, Drawn):
                    inner = max(1, int(half * v.choose(INNER_MULTIPLIERS)))
                x = _block(b, x, half, inner, v.kernel(3), halve=index == 0)
    with b.scope("last"):
        x = conv_bn(b, x, v.channels(widths[3]))
    return classifier(b, x, classes)


def _block(b: Builder, x: int, half: int, inner: int, kernel: int, *, halve: bool) -> int:
    if halve:
        stay = conv_bn(b, depthwise_bn(b, x, kernel, 2, None), half)
        go, stride = x, 2
    else:
        stay, go = b.add_many(Split((half, half)), x)
        stride = 1
    go = conv_bn(b, go, inner)
    go = depthwise_bn(b, go, kernel, stride, None)
    go = conv_bn(b, go, half)
    return b.add(ChannelShuffle(2), b.add(Concat(), stay, go))


def draw(b: Builder, v: Drawn, classes: int) -> int:
    """Wire a random ShuffleNet V2 around x1.0."""
    return shufflenet_v2(b, v, classes, widths=WIDTHS["shufflenet_v2_x1_0"])


FAMILY = Family(
    "shufflenet_v2",
    {name: partial(shufflenet_v2, widths=widths) for name, widths in WIDTHS.items()},
    draw,
    Grid(steps(1.0, 1.8), (3, 5, 7, 9)),
)
