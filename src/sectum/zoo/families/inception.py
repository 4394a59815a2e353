"""Inception v3 (Szegedy et al. 2015) as in torchvision, without the auxiliary head."""

from __future__ import annotations

from sectum.zoo.architecture import Builder
from sectum.zoo.blocks import average_pool, classifier, conv_bn, max_pool
from sectum.zoo.families.family import Family
from sectum.zoo.layers import Concat, Pair
from sectum.zoo.variation import Variation

EPSILON = 1e-3
TALL, FLAT = (7, 1), (1, 7)


def inception_v3(b: Builder, v: Variation, classes: int) -> int:
    """Wire an Inception v3; its first layers are unpadded, so that it needs 75 pixels."""
    net = _Inception(b, v)
    with b.scope("stem"):
        x = net.conv(b.input, 32, 3, 2, padding=0)
        x = net.conv(x, 32, 3, padding=0)
        x = max_pool(b, net.conv(x, 64, 3), 3, 2)
        x = net.conv(x, 80)
        x = max_pool(b, net.conv(x, 192, 3, padding=0), 3, 2)
    for index, pooled in enumerate((32, 64, 64)):
        with b.scope(f"mixed5_{index}"):
            x = net.wide_kernels(x, pooled)
    with b.scope("mixed6_0"):
        x = net.first_reduction(x)
    for index, inner in enumerate((128, 160, 160, 192), 1):
        with b.scope(f"mixed6_{index}"):
            x = net.strips(x, inner)
    with b.scope("mixed7_0"):
        x = net.second_reduction(x)
    for index in (1, 2):
        with b.scope(f"mixed7_{index}"):
            x = net.forks(x)
    return classifier(b, x, classes)


class _Inception:
    """The five kinds of block; each joins its branches along the channels."""

    def __init__(self, b: Builder, v: Variation) -> None:
        self.b, self.v = b, v

    def conv(self, x: int, channels: int, kernel: int | Pair = 1, stride: int = 1, padding: int | None = None) -> int:
        width = self.v.channels(channels)
        return conv_bn(self.b, x, width, kernel, stride, padding=padding, epsilon=EPSILON)

    def chain(self, x: int, *steps: tuple[int, int | Pair]) -> int:
        for channels, kernel in steps:
            x = self.conv(x, channels, kernel)
        return x

    def pooled(self, x: int, channels: int) -> int:
        return self.conv(average_pool(self.b, x, 3, 1, 1), channels)

    def join(self, *branches: int) -> int:
        return self.b.add(Concat(), *branches)

    def wide_kernels(self, x: int, pooled: int) -> int:
        five = self.chain(x, (48, 1), (64, 5))
        threes = self.chain(x, (64, 1), (96, 3), (96, 3))
        return self.join(self.conv(x, 64), five, threes, self.pooled(x, pooled))

    def first_reduction(self, x: int) -> int:
        threes = self.conv(self.chain(x, (64, 1), (96, 3)), 96, 3, 2, 0)
        return self.join(self.conv(x, 384, 3, 2, 0), threes, max_pool(self.b, x, 3, 2))

    def strips(self, x: int, inner: int) -> int:
        short = self.chain(x, (inner, 1), (inner, FLAT), (192, TALL))
        long = self.chain(x, (inner, 1), (inner, TALL), (inner, FLAT), (inner, TALL), (192, FLAT))
        return self.join(self.conv(x, 192), short, long, self.pooled(x, 192))

    def second_reduction(self, x: int) -> int:
        three = self.conv(self.conv(x, 192), 320, 3, 2, 0)
        seven = self.conv(self.chain(x, (192, 1), (192, FLAT), (192, TALL)), 192, 3, 2, 0)
        return self.join(three, seven, max_pool(self.b, x, 3, 2))

    def forks(self, x: int) -> int:
        left, right = self.conv(x, 384), self.chain(x, (448, 1), (384, 3))
        crossed = [self.join(self.conv(y, 384, (1, 3)), self.conv(y, 384, (3, 1))) for y in (left, right)]
        return self.join(self.conv(x, 320), *crossed, self.pooled(x, 192))


FAMILY = Family("inception_v3", {"inception_v3": inception_v3}, resolutions={"inception_v3": 299})
