"""AlexNet: as in torchvision ("One weird trick", Krizhevsky 2014), and the original widths without groups."""

from __future__ import annotations

from functools import partial

from sectum.zoo.architecture import Builder
from sectum.zoo.blocks import classifier, conv_act, hidden_classifier, max_pool
from sectum.zoo.families.family import Family
from sectum.zoo.variation import Drawn, Variation

HEAD_FEATURES = 4096
HEAD_SPACE = 6


# Channels of the five convolutions.
TORCHVISION = (64, 192, 384, 256, 256)
# Krizhevsky 2012 with its two halves joined: the "alex" of the enclave measurements of BTW 2023, whose first
# fully connected layer is 9216 x 4096 and whose weights take 249.5 MB.
UNGROUPED = (96, 256, 384, 384, 256)


def alexnet(b: Builder, v: Variation, classes: int, *, table: tuple[int, ...], global_pool: bool = False) -> int:
    """Wire an AlexNet; with ``global_pool`` its head is one fully connected layer after global pooling."""
    first, second, *rest = table
    x = b.input
    with b.scope("features"):
        kernel = v.kernel(11)
        x = conv_act(b, x, v.channels(first), kernel, 4, padding=2 if kernel == 11 else None)
        x = max_pool(b, x, 3, 2)
        x = conv_act(b, x, v.channels(second), v.kernel(5))
        x = max_pool(b, x, 3, 2)
        for channels in rest:
            x = conv_act(b, x, v.channels(channels), v.kernel(3))
        x = max_pool(b, x, 3, 2)
    if global_pool:
        return classifier(b, x, classes)
    return hidden_classifier(b, v, x, classes, space=HEAD_SPACE, features=HEAD_FEATURES)


def draw(b: Builder, v: Drawn, classes: int) -> int:
    """Wire a random AlexNet; its head is drawn too."""
    return alexnet(b, v, classes, table=TORCHVISION, global_pool=v.choose((False, True)))


FAMILY = Family(
    "alexnet",
    {
        "alexnet": partial(alexnet, table=TORCHVISION),
        "alexnet_ungrouped": partial(alexnet, table=UNGROUPED),
    },
    draw,
    least_resolution=64,
)
