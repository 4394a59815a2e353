"""SqueezeNet 1.0 and 1.1 (Iandola et al. 2016), as in torchvision.models.squeezenet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from sectum.zoo.architecture import Builder
from sectum.zoo.blocks import conv_act, max_pool
from sectum.zoo.families.family import Family, any_of
from sectum.zoo.layers import Concat, Flatten, GlobalAveragePool
from sectum.zoo.variation import Variation

# Squeezed channels, and those of each of the two expansions, of the fire modules.
FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))


@dataclass(frozen=True, slots=True)
class Plan:
    """The stem, and before which fire modules the map is halved."""

    stem_channels: int
    stem_kernel: int
    pools_before: tuple[int, ...]


PLANS = {"squeezenet1_0": Plan(96, 7, (0, 3, 7)), "squeezenet1_1": Plan(64, 3, (0, 2, 4))}


def squeezenet(b: Builder, v: Variation, classes: int, *, plan: Plan) -> int:
    """Wire a SqueezeNet. Its head is a convolution: there is no fully connected layer."""
    with b.scope("stem"):
        x = conv_act(b, b.input, v.channels(plan.stem_channels), v.kernel(plan.stem_kernel), 2, padding=0)
    for index, (squeezed, expanded) in enumerate(FIRES):
        if index in plan.pools_before:
            x = max_pool(b, x, 3, 2, ceil=True)
        with b.scope(f"fire{index}"):
            s = conv_act(b, x, v.channels(squeezed))
            left = conv_act(b, s, v.channels(expanded))
            x = b.add(Concat(), left, conv_act(b, s, v.channels(expanded), v.kernel(3)))
    with b.scope("head"):
        x = conv_act(b, x, classes)
        return b.add(Flatten(), b.add(GlobalAveragePool(), x))


PUBLISHED = {name: partial(squeezenet, plan=plan) for name, plan in PLANS.items()}
FAMILY = Family(
    "squeezenet",
    PUBLISHED,
    any_of(PUBLISHED),
)
