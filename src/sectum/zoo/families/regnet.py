"""RegNet X and Y at 400 MFLOPs (Radosavovic et al. 2020), as in torchvision.models.regnet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from sectum.zoo.architecture import Builder
from sectum.zoo.blocks import classifier, conv_bn, relu, squeeze_excite
from sectum.zoo.families.family import Family
from sectum.zoo.layers import Add, Nonlinearity
from sectum.zoo.variation import Drawn, Grid, Variation, steps


@dataclass(frozen=True, slots=True)
class Plan:
    """Blocks and channels of each stage, channels of a group, and whether blocks squeeze and excite."""

    depths: tuple[int, ...]
    channels: tuple[int, ...]
    group: int
    excite: bool


PLANS = {
    "regnet_x_400mf": Plan((1, 2, 7, 12), (32, 64, 160, 400), 16, False),
    "regnet_y_400mf": Plan((1, 3, 6, 6), (48, 104, 208, 440), 8, True),
}
GROUPS = (8, 16, 24, 32, 48)
DEPTHS = steps(0.4, 1.6, 0.2)


def regnet(b: Builder, v: Variation, classes: int, *, plan: Plan) -> int:
    """Wire a RegNet; scaled channels stay multiples of the group, and kernels are those of grouped convolutions."""
    with b.scope("stem"):
        x = conv_bn(b, b.input, v.channels(32), v.kernel(3), 2)
    for number, (depth, published) in enumerate(zip(plan.depths, plan.channels, strict=True)):
        out = v.channels(published, plan.group)
        for index in range(depth):
            with b.scope(f"stage{number}.block{index}"):
                x = _block(b, x, out, v.kernel(3), 1 if index else 2, plan)
    return classifier(b, x, classes)


def _block(b: Builder, x: int, out: int, kernel: int, stride: int, plan: Plan) -> int:
    squeezed = max(1, round(b.channels(x) / 4))
    y = conv_bn(b, x, out)
    y = conv_bn(b, y, out, kernel, stride, groups=out // plan.group)
    if plan.excite:
        y = squeeze_excite(b, y, squeezed, Nonlinearity.RELU, Nonlinearity.SIGMOID)
    y = conv_bn(b, y, out, act=None)
    if stride != 1 or b.channels(x) != out:
        with b.scope("shortcut"):
            x = conv_bn(b, x, out, 1, stride, None)
    return relu(b, b.add(Add(), x, y))


def draw(b: Builder, v: Drawn, classes: int) -> int:
    """Wire a random RegNet X or Y: the depth of each stage and the group are drawn too."""
    plan = PLANS[v.choose(tuple(PLANS))]
    depths = (max(1, round(depth * v.choose(DEPTHS))) for depth in plan.depths)
    return regnet(b, v, classes, plan=replace(plan, depths=tuple(depths), group=v.choose(GROUPS)))


FAMILY = Family(
    "regnet",
    {name: partial(regnet, plan=plan) for name, plan in PLANS.items()},
    draw,
    Grid(steps(0.4, 2.4), kernels=(3, 5, 7)),
)
