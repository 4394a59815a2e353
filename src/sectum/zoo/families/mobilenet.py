"""MobileNet V1, V2, V3, MnasNet and ProxylessNAS: chains of depthwise-separable blocks.

Sources: arXiv 1704.04861 (V1); torchvision.models for V2, V3 and MnasNet; arXiv 1812.00332 and its published
"mobile" network for ProxylessNAS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from sectum.zoo.architecture import Builder
from sectum.zoo.blocks import classifier, conv_bn, depthwise_bn, squeeze_excite
from sectum.zoo.families.family import Assemble, Family, any_of
from sectum.zoo.layers import Activation, Add, Flatten, GlobalAveragePool, Linear, Nonlinearity
from sectum.zoo.variation import Grid, Scaled, Variation, make_divisible, steps

RELU, RELU6, HARD_SWISH = Nonlinearity.RELU, Nonlinearity.RELU6, Nonlinearity.HARD_SWISH

# Output channels and stride of each depthwise-separable block.
V1_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *(((512, 1),) * 5), (1024, 2), (1024, 1),
)  # fmt: skip


def mobilenet_v1(b: Builder, v: Variation, classes: int) -> int:
    """Wire a MobileNet V1."""
    with b.scope("stem"):
        x = conv_bn(b, b.input, v.channels(32), v.kernel(3), 2)
    for index, (channels, stride) in enumerate(V1_BLOCKS):
        with b.scope(f"block{index}"):
            x = conv_bn(b, depthwise_bn(b, x, v.kernel(3), stride), v.channels(channels))
    return classifier(b, x, classes)


@dataclass(frozen=True, slots=True)
class Stage:
    """Inverted residual blocks with one number of output channels; ``stride`` is that of the first."""

    expand: float
    channels: int
    repeats: int
    stride: int
    kernel: int = 3
    kernels: tuple[int, ...] = ()  # where the blocks differ
    first_expand: float = 0.0  # where the first block differs

    def block(self, index: int) -> tuple[float, int, int]:
        """Tell the published expansion, kernel and stride of one block."""
        expand = self.first_expand if index == 0 and self.first_expand else self.expand
        kernel = self.kernels[index] if self.kernels else self.kernel
        return expand, kernel, self.stride if index == 0 else 1


def inverted_residual(
    b: Builder,
    x: int,
    inner: int,
    out: int,
    kernel: int,
    stride: int,
    act: Nonlinearity,
    *,
    expand: bool = True,
) -> int:
    """Wire 1x1 to ``inner`` channels, depthwise, 1x1 to ``out``, and the sum with the input where that fits.

    Without ``expand`` the depthwise convolution comes first, on the channels that there are.
    """
    y = conv_bn(b, x, inner, act=act) if expand else x
    y = depthwise_bn(b, y, kernel, stride, act)
    y = conv_bn(b, y, out, act=None)
    return b.add(Add(), x, y) if stride == 1 and b.shape(x) == b.shape(y) else y


def _stages(b: Builder, v: Variation, x: int, stages: Sequence[Stage], act: Nonlinearity) -> int:
    for number, stage in enumerate(stages):
        out = v.channels(stage.channels)
        for index in range(stage.repeats):
            published, kernel, stride = stage.block(index)
            first = number == 0 and published == 1  # the block after the stem has nothing to expand
            expand = 1.0 if first else v.expand(published)
            inner = round(b.channels(x) * expand)
            with b.scope(f"stage{number}.block{index}"):
                x = inverted_residual(b, x, inner, out, v.kernel(kernel), stride, act, expand=expand != 1)
    return x


V2_STAGES = (
    Stage(1, 16, 1, 1), Stage(6, 24, 2, 2), Stage(6, 32, 3, 2), Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1), Stage(6, 160, 3, 2), Stage(6, 320, 1, 1),
)  # fmt: skip


def mobilenet_v2(
    b: Builder, v: Variation, classes: int, *, stages: Sequence[Stage] = V2_STAGES, keeps_last: bool = True
) -> int:
    """Wire a MobileNet V2, or a network of other stages. Widths below 1 keep the last 1280 channels, as published."""
    with b.scope("stem"):
        x = conv_bn(b, b.input, v.channels(32), v.kernel(3), 2, RELU6)
    x = _stages(b, v, x, stages, RELU6)
    last = 1280 if keeps_last and isinstance(v, Scaled) and v.width < 1 else v.channels(1280)
    with b.scope("last"):
        x = conv_bn(b, x, last, act=RELU6)
    return classifier(b, x, classes)


MNASNET_STAGES = (
    Stage(3, 24, 3, 2, 3), Stage(3, 40, 3, 2, 5), Stage(6, 80, 3, 2, 5),
    Stage(6, 96, 2, 1, 3), Stage(6, 192, 4, 2, 5), Stage(6, 320, 1, 1, 3),
)  # fmt: skip


def mnasnet(b: Builder, v: Variation, classes: int, *, alpha: float = 1.0) -> int:
    """Wire a MnasNet-B1; ``alpha`` is its published depth multiplier, which leaves the last layer alone."""
    with b.scope("stem"):
        x = conv_bn(b, b.input, v.channels(make_divisible(32 * alpha)), v.kernel(3), 2)
        x = depthwise_bn(b, x, v.kernel(3))
        x = conv_bn(b, x, v.channels(make_divisible(16 * alpha)), act=None)
    stages = [replace(stage, channels=make_divisible(stage.channels * alpha)) for stage in MNASNET_STAGES]
    x = _stages(b, v, x, stages, RELU)
    with b.scope("last"):
        x = conv_bn(b, x, v.channels(1280))
    return classifier(b, x, classes)


# The published "mobile" network; blocks that its search replaced by nothing are left out.
PROXYLESS_STAGES = (
    Stage(1, 16, 1, 1), Stage(3, 32, 2, 2, kernels=(5, 3)),
    Stage(3, 40, 4, 2, kernels=(7, 3, 5, 5)),
    Stage(3, 80, 4, 2, kernels=(7, 5, 5, 5), first_expand=6), Stage(3, 96, 4, 1, 5, first_expand=6),
    Stage(6, 192, 2, 2, 7), Stage(3, 192, 2, 1, 7), Stage(6, 320, 1, 1, 7),
)  # fmt: skip


proxylessnas = partial(mobilenet_v2, stages=PROXYLESS_STAGES, keeps_last=False)


@dataclass(frozen=True, slots=True)
class V3Block:
    """A block of MobileNet V3: its inner and output channels are listed, not derived."""

    kernel: int
    inner: int
    out: int
    excite: bool
    act: Nonlinearity
    stride: int


V3_LARGE = (
    V3Block(3, 16, 16, False, RELU, 1), V3Block(3, 64, 24, False, RELU, 2),
    V3Block(3, 72, 24, False, RELU, 1), V3Block(5, 72, 40, True, RELU, 2),
    V3Block(5, 120, 40, True, RELU, 1), V3Block(5, 120, 40, True, RELU, 1),
    V3Block(3, 240, 80, False, HARD_SWISH, 2), V3Block(3, 200, 80, False, HARD_SWISH, 1),
    V3Block(3, 184, 80, False, HARD_SWISH, 1), V3Block(3, 184, 80, False, HARD_SWISH, 1),
    V3Block(3, 480, 112, True, HARD_SWISH, 1), V3Block(3, 672, 112, True, HARD_SWISH, 1),
    V3Block(5, 672, 160, True, HARD_SWISH, 2), V3Block(5, 960, 160, True, HARD_SWISH, 1),
    V3Block(5, 960, 160, True, HARD_SWISH, 1),
)  # fmt: skip
V3_SMALL = (
    V3Block(3, 16, 16, True, RELU, 2), V3Block(3, 72, 24, False, RELU, 2), V3Block(3, 88, 24, False, RELU, 1),
    V3Block(5, 96, 40, True, HARD_SWISH, 2), V3Block(5, 240, 40, True, HARD_SWISH, 1),
    V3Block(5, 240, 40, True, HARD_SWISH, 1), V3Block(5, 120, 48, True, HARD_SWISH, 1),
    V3Block(5, 144, 48, True, HARD_SWISH, 1), V3Block(5, 288, 96, True, HARD_SWISH, 2),
    V3Block(5, 576, 96, True, HARD_SWISH, 1), V3Block(5, 576, 96, True, HARD_SWISH, 1),
)  # fmt: skip


def mobilenet_v3(b: Builder, v: Variation, classes: int, *, blocks: Sequence[V3Block], head: int) -> int:
    """Wire a MobileNet V3. A drawn network draws the output channels where the published ones change."""
    with b.scope("stem"):
        x = conv_bn(b, b.input, v.channels(16), v.kernel(3), 2, HARD_SWISH)
    published, out = 16, b.channels(x)
    for index, block in enumerate(blocks):
        if block.out != published:
            published, out = block.out, v.channels(block.out)
        inner = round(v.channels(block.inner) * v.expand(1.0))
        with b.scope(f"block{index}"):
            y = conv_bn(b, x, inner, act=block.act) if index else x
            y = depthwise_bn(b, y, v.kernel(block.kernel), block.stride, block.act)
            if block.excite:
                squeezed = make_divisible(b.channels(y) / 4)
                y = squeeze_excite(b, y, squeezed, RELU, Nonlinearity.HARD_SIGMOID)
            y = conv_bn(b, y, out, act=None)
            x = b.add(Add(), x, y) if block.stride == 1 and b.shape(x) == b.shape(y) else y
    with b.scope("last"):
        x = conv_bn(b, x, v.channels(6 * blocks[-1].out), act=HARD_SWISH)
    with b.scope("head"):
        x = b.add(Flatten(), b.add(GlobalAveragePool(), x))
        x = b.add(Linear(v.channels(head)), x)
        x = b.add(Activation(HARD_SWISH), x, name="act")
        return b.add(Linear(classes), x)


V3: dict[str, Assemble] = {
    "mobilenet_v3_large": partial(mobilenet_v3, blocks=V3_LARGE, head=1280),
    "mobilenet_v3_small": partial(mobilenet_v3, blocks=V3_SMALL, head=1024),
}


MNASNETS = {
    "mnasnet0_5": 0.5, "mnasnet0_75": 0.75, "mnasnet1_0": 1.0, "mnasnet1_3": 1.3,
}  # fmt: skip

FAMILIES = (
    Family("mobilenet_v1", {"mobilenet_v1": mobilenet_v1}, mobilenet_v1),
    Family(
        "mobilenet_v2",
        {"mobilenet_v2": mobilenet_v2},
        mobilenet_v2,
        Grid(expands=(1, 2, 3, 4, 5, 6, 7, 8)),
    ),
    Family("mobilenet_v3", V3, any_of(V3), Grid(expands=steps(0.8, 1.8), expand_factors=True)),
    Family(
        "mnasnet",
        {name: partial(mnasnet, alpha=alpha) for name, alpha in MNASNETS.items()},
        mnasnet,
        Grid(kernels=(3, 5, 7), expands=(3, 4, 6)),
    ),
    Family(
        "proxylessnas",
        {"proxylessnas_mobile": proxylessnas},
        proxylessnas,
        Grid(kernels=(3, 5, 7), expands=(3, 6)),
    ),
)
