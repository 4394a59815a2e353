"""ResNet (He et al. 2015), with the stride in the 3x3 convolution as in torchvision ("v1.5")."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from sectum.zoo.architecture import Builder
from sectum.zoo.blocks import classifier, conv_bn, max_pool, relu
from sectum.zoo.families.family import Family
from sectum.zoo.layers import Add
from sectum.zoo.variation import Drawn, Grid, Variation, steps

STAGE_CHANNELS = (64, 128, 256, 512)


@dataclass(frozen=True, slots=True)
class Plan:
    """Blocks of each stage, and whether they are bottlenecks (1x1, 3x3, 1x1) or basic (3x3, 3x3)."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool


PLANS = {
    "resnet18": Plan((2, 2, 2, 2), False),
    "resnet34": Plan((3, 4, 6, 3), False),
    "resnet50": Plan((3, 4, 6, 3), True),
    "resnet101": Plan((3, 4, 23, 3), True),
    "resnet152": Plan((3, 8, 36, 3), True),
}
BOTTLENECK_EXPANSION = 4


def resnet(b: Builder, v: Variation, classes: int, *, plan: Plan) -> int:
    """Wire a ResNet. Channels and expansion vary by stage, for the sums' sake; inner channels by block."""
    with b.scope("stem"):
        x = conv_bn(b, b.input, v.channels(64), v.kernel(7), 2)
        x = max_pool(b, x, 3, 2, 1)
    for stage, (published, count) in enumerate(zip(STAGE_CHANNELS, plan.blocks, strict=True), 1):
        out = v.channels(published)
        if plan.bottleneck:
            out *= int(v.expand(BOTTLENECK_EXPANSION))
        for index in range(count):
            stride = 2 if stage > 1 and index == 0 else 1
            with b.scope(f"stage{stage}.block{index}"):
                x = _block(b, v, x, published, out, stride, bottleneck=plan.bottleneck)
    return classifier(b, x, classes)


def _block(b: Builder, v: Variation, x: int, published: int, out: int, stride: int, *, bottleneck: bool) -> int:
    if bottleneck:
        y = conv_bn(b, x, v.channels(published))
        y = conv_bn(b, y, v.channels(published), v.kernel(3), stride)
        y = conv_bn(b, y, out, act=None)
    else:
        y = conv_bn(b, x, v.channels(published), v.kernel(3), stride)
        y = conv_bn(b, y, out, v.kernel(3), act=None)
    if stride != 1 or b.channels(x) != out:
        with b.scope("shortcut"):
            x = conv_bn(b, x, out, 1, stride, None)
    return relu(b, b.add(Add(), y, x))


def draw(b: Builder, v: Drawn, classes: int) -> int:
    """Wire a random ResNet of 18, 34 or 50 layers."""
    return resnet(b, v, classes, plan=PLANS[v.choose(("resnet18", "resnet34", "resnet50"))])


FAMILY = Family(
    "resnet",
    {name: partial(resnet, plan=plan) for name, plan in PLANS.items()},
    draw,
    Grid(steps(0.2, 1.2), (3, 5, 7), (2, 4)),
)
