"""Inception v3 (Szegedy et al. 2015) as in torchvision, without the auxiliary head.

Random relatives may sum each block with its input, as Inception-ResNet does (Szegedy et al. 2016).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from sectum.zoo.architecture import Builder
from sectum.zoo.blocks import average_pool, classifier, conv_bn, max_pool, relu
from sectum.zoo.families.family import Family
from sectum.zoo.layers import Add, Concat, Pair
from sectum.zoo.variation import Drawn, Grid, Variation, steps

EPSILON = 1e-3


@dataclass(frozen=True, slots=True)
class Plan:
    """The blocks between the reductions.

    Attributes:
        pooled: channels of the pooling branch of each block with wide kernels.
        strips: inner channels of each block with kernels of one row or column.
        forks: blocks whose branches fork at their end.
        residual: whether blocks are summed with their input.
    """

    pooled: tuple[int, ...] = (32, 64, 64)
    strips: tuple[int, ...] = (128, 160, 160, 192)
    forks: int = 2
    residual: bool = False


V3 = Plan()


def inception(b: Builder, v: Variation, classes: int, *, plan: Plan) -> int:
    """Wire an Inception; its first layers are unpadded, so that it needs 75 pixels."""
    net = _Inception(b, v, residual=plan.residual)
    with b.scope("stem"):
        x = net.conv(b.input, 32, 3, 2, padding=0)
        x = net.conv(x, 32, 3, padding=0)
        x = max_pool(b, net.conv(x, 64, 3), 3, 2)
        x = net.conv(x, 80)
        x = max_pool(b, net.conv(x, 192, 3, padding=0), 3, 2)
    for index, pooled in enumerate(plan.pooled):
        with b.scope(f"mixed5_{index}"):
            x = net.block(x, net.wide_kernels(x, pooled))
    with b.scope("mixed6_0"):
        x = net.first_reduction(x)
    for index, inner in enumerate(plan.strips, 1):
        with b.scope(f"mixed6_{index}"):
            x = net.block(x, net.strips(x, inner))
    with b.scope("mixed7_0"):
        x = net.second_reduction(x)
    for index in range(1, plan.forks + 1):
        with b.scope(f"mixed7_{index}"):
            x = net.block(x, net.forks(x))
    return classifier(b, x, classes)


class _Inception:
    """The five kinds of block; each joins its branches along the channels."""

    def __init__(self, b: Builder, v: Variation, *, residual: bool) -> None:
        self.b, self.v, self.residual = b, v, residual

    def block(self, x: int, y: int) -> int:
        """Give the branches' result, or its sum with what entered them."""
        if not self.residual:
            return y
        y = conv_bn(self.b, y, self.b.channels(x), act=None, epsilon=EPSILON)
        return relu(self.b, self.b.add(Add(), x, y))

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
        five = self.chain(x, (48, 1), (64, self.v.kernel(5)))
        three = self.v.kernel(3)
        threes = self.chain(x, (64, 1), (96, three), (96, three))
        return self.join(self.conv(x, 64), five, threes, self.pooled(x, pooled))

    def first_reduction(self, x: int) -> int:
        threes = self.conv(self.chain(x, (64, 1), (96, 3)), 96, 3, 2, 0)
        return self.join(self.conv(x, 384, 3, 2, 0), threes, max_pool(self.b, x, 3, 2))

    def strip(self) -> tuple[Pair, Pair]:
        """Kernels of one row, and of one column."""
        size = self.v.kernel(7)
        return (1, size), (size, 1)

    def strips(self, x: int, inner: int) -> int:
        flat, tall = self.strip()
        short = self.chain(x, (inner, 1), (inner, flat), (192, tall))
        long = self.chain(x, (inner, 1), (inner, tall), (inner, flat), (inner, tall), (192, flat))
        return self.join(self.conv(x, 192), short, long, self.pooled(x, 192))

    def second_reduction(self, x: int) -> int:
        three = self.conv(self.conv(x, 192), 320, 3, 2, 0)
        flat, tall = self.strip()
        seven = self.conv(self.chain(x, (192, 1), (192, flat), (192, tall)), 192, 3, 2, 0)
        return self.join(three, seven, max_pool(self.b, x, 3, 2))

    def forks(self, x: int) -> int:
        left, right = self.conv(x, 384), self.chain(x, (448, 1), (384, self.v.kernel(3)))
        crossed = [self.join(self.conv(y, 384, (1, 3)), self.conv(y, 384, (3, 1))) for y in (left, right)]
        return self.join(self.conv(x, 320), *crossed, self.pooled(x, 192))


def draw(b: Builder, v: Drawn, classes: int) -> int:
    """Wire a random Inception: the number of blocks, their inner channels and their sums are drawn too."""
    pooled = tuple(v.choose((32, 64)) for _ in range(v.choose((1, 2, 3, 4))))
    strips = tuple(v.choose((128, 160, 192)) for _ in range(v.choose((1, 2, 3, 4, 5, 6))))
    plan = Plan(pooled, strips, v.choose((1, 2, 3)), v.choose((False, True)))
    return inception(b, v, classes, plan=plan)


FAMILY = Family(
    "inception",
    {"inception_v3": partial(inception, plan=V3)},
    draw,
    Grid(steps(0.2, 1.5), (3, 5, 7)),
    resolutions={"inception_v3": 299},
    least_resolution=75,
)
