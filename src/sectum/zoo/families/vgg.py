"""VGG (Simonyan and Zisserman 2014), layer tables as in torchvision.models.vgg."""

from __future__ import annotations

from functools import partial

from sectum.zoo.architecture import Builder
from sectum.zoo.blocks import classifier, conv, hidden_classifier, max_pool, relu
from sectum.zoo.families.family import Family
from sectum.zoo.layers import BatchNorm
from sectum.zoo.variation import Drawn, Variation

STAGE_CHANNELS = (64, 128, 256, 512, 512)
STAGE_CONVS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
HEAD_FEATURES = 4096
HEAD_SPACE = 7


def vgg(b: Builder, v: Variation, classes: int, *, depth: int, batch_norm: bool, global_pool: bool = False) -> int:
    """Wire a VGG; with ``global_pool`` its head is one fully connected layer after global pooling."""
    x = b.input
    with b.scope("features"):
        for channels, count in zip(STAGE_CHANNELS, STAGE_CONVS[depth], strict=True):
            for _ in range(count):
                x = conv(b, x, v.channels(channels), v.kernel(3), bias=True)
                x = relu(b, b.add(BatchNorm(), x) if batch_norm else x)
            x = max_pool(b, x, 2, 2)
    if global_pool:
        return classifier(b, x, classes)
    return hidden_classifier(b, v, x, classes, space=HEAD_SPACE, features=HEAD_FEATURES)


def draw(b: Builder, v: Drawn, classes: int) -> int:
    """Wire a random VGG: depth, normalisation and head are drawn too."""
    depth = v.choose(tuple(STAGE_CONVS))
    batch_norm, global_pool = v.choose((False, True)), v.choose((False, True))
    return vgg(b, v, classes, depth=depth, batch_norm=batch_norm, global_pool=global_pool)


FAMILY = Family(
    "vgg",
    {
        f"vgg{depth}{suffix}": partial(vgg, depth=depth, batch_norm=bool(suffix))
        for depth in STAGE_CONVS
        for suffix in ("", "_bn")
    },
    draw,
)
