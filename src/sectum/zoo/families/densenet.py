"""DenseNet (Huang et al. 2016), as in torchvision.models.densenet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from sectum.zoo.architecture import Builder
from sectum.zoo.blocks import average_pool, classifier, conv, conv_bn, max_pool, relu
from sectum.zoo.families.family import Family, any_of
from sectum.zoo.layers import BatchNorm, Concat
from sectum.zoo.variation import Grid, Variation, steps


@dataclass(frozen=True, slots=True)
class Plan:
    """Layers of each dense block, channels that each layer adds, and channels of the stem."""

    layers: tuple[int, int, int, int]
    growth: int = 32
    stem: int = 64


PLANS = {
    "densenet121": Plan((6, 12, 24, 16)),
    "densenet161": Plan((6, 12, 36, 24), 48, 96),
    "densenet169": Plan((6, 12, 32, 32)),
    "densenet201": Plan((6, 12, 48, 32)),
}
BOTTLENECK = 4  # inner channels of a layer, in multiples of the growth


def densenet(b: Builder, v: Variation, classes: int, *, plan: Plan) -> int:
    """Wire a DenseNet; growth and bottleneck vary by block."""
    with b.scope("stem"):
        x = conv_bn(b, b.input, v.channels(plan.stem), v.kernel(7), 2)
        x = max_pool(b, x, 3, 2, 1)
    for number, count in enumerate(plan.layers):
        growth = v.channels(plan.growth)
        inner = max(1, round(growth * BOTTLENECK * v.expand(1.0)))
        kernel = v.kernel(3)
        for index in range(count):
            with b.scope(f"block{number}.layer{index}"):
                y = conv(b, _norm_relu(b, x), inner)
                y = conv(b, _norm_relu(b, y), growth, kernel)
                x = b.add(Concat(), x, y)
        if number < len(plan.layers) - 1:
            with b.scope(f"transition{number}"):
                x = conv(b, _norm_relu(b, x), max(1, b.channels(x) // 2))
                x = average_pool(b, x, 2, 2)
    with b.scope("last"):
        x = _norm_relu(b, x)
    return classifier(b, x, classes)


def _norm_relu(b: Builder, x: int) -> int:
    return relu(b, b.add(BatchNorm(), x))


PUBLISHED = {name: partial(densenet, plan=plan) for name, plan in PLANS.items()}
FAMILY = Family(
    "densenet",
    PUBLISHED,
    any_of(PUBLISHED),
    Grid(steps(0.2, 1.2), (1, 3, 5), steps(0.8, 1.8), expand_factors=True),
)
