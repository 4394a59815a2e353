"""RegNet X and Y at 400 MFLOPs (Radosavovic et al. 2020), as in torchvision.models.regnet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from sectum.zoo.architecture import Builder
from sectum.zoo.blocks import classifier, conv_bn, relu, squeeze_excite
from sectum.zoo.families.family import Family
from sectum.zoo.layers import Add, Nonlinearity
from sectum.zoo.variation import Variation


@dataclass(frozen=True, slots=True)
class Plan:
    """Blocks and channels of each stage, channels of a group, and whether blocks squeeze and excite."""

    depths: tuple[int, int, int, int]
    channels: tuple[int, int, int, int]
    group: int
    excite: bool


PLANS = {
    "regnet_x_400mf": Plan((1, 2, 7, 12), (32, 64, 160, 400), 16, False),
    "regnet_y_400mf": Plan((1, 3, 6, 6), (48, 104, 208, 440), 8, True),
}


def regnet(b: Builder, v: Variation, classes: int, *, plan: Plan) -> int:
    """Wire a RegNet; scaled channels stay multiples of the group."""
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


FAMILY = Family("regnet", {name: partial(regnet, plan=plan) for name, plan in PLANS.items()})
