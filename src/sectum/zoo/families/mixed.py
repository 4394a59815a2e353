"""Random chains of single operators: they show what operators cost in places where no published family has them.

Some operators are used by one family alone: layer normalisation by ConvNeXt, long concatenations by DenseNet, large
fully connected layers by AlexNet and VGG. Networks that users bring combine them otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

from sectum.zoo.architecture import Builder
from sectum.zoo.blocks import average_pool, classifier, conv, max_pool, pool_to, squeeze_excite
from sectum.zoo.families.family import Family
from sectum.zoo.layers import (
    Activation,
    Add,
    BatchNorm,
    ChannelScale,
    ChannelShuffle,
    Concat,
    Flatten,
    LayerNorm,
    Linear,
    Nonlinearity,
    Permute,
    Split,
)
from sectum.zoo.variation import Drawn

Step = Callable[[Builder, Drawn, int], int]

STEPS = (6, 8, 10, 12, 14, 16, 20, 24)
CHANNELS = (8, 16, 24, 32, 40, 56, 64, 72, 96, 112, 128, 160, 192, 240, 256, 320, 384, 448, 512)
LARGEST_ELEMENTS, LARGEST_CHANNELS = 1 << 19, 768
LARGEST_PRODUCT = 1 << 24
HIDDEN = (128, 256, 512, 1000, 1024, 2048, 4096)
NONLINEARITIES = tuple(Nonlinearity)


def draw(b: Builder, v: Drawn, classes: int) -> int:
    """Wire a stem, a random chain, and a head: global pooling, or one to three fully connected layers."""
    with b.scope("stem"):
        stride = v.choose((1, 2, 2, 4))
        x = conv(b, b.input, v.choose(CHANNELS[:8]), max(stride, v.kernel(3)), stride, bias=True)
        x = _nonlinearity(b, v, x)
    for index in range(v.choose(STEPS)):
        with b.scope(f"step{index}"):
            if _elements(b, x) > LARGEST_ELEMENTS or b.channels(x) > LARGEST_CHANNELS:
                x = _reduce(b, v, x)
            x = v.choose(_KINDS)(b, v, x)
    if v.choose((False, True)):
        return classifier(b, x, classes)
    with b.scope("head"):
        x = b.add(Flatten(), pool_to(b, x, v.choose((1, 2, 4, 7))))
        for _ in range(v.choose((0, 1, 2))):
            features = v.choose(HIDDEN)
            if b.shape(x)[0] * features > LARGEST_PRODUCT:
                break
            x = _nonlinearity(b, v, b.add(Linear(features), x))
        return b.add(Linear(classes), x)


def _elements(b: Builder, x: int) -> int:
    channels, height, width = b.shape(x)
    return channels * height * width


def _reduce(b: Builder, v: Drawn, x: int) -> int:
    stride = 2 if b.shape(x)[1] > 2 else 1
    return conv(b, x, v.choose(CHANNELS[4:14]), v.choose((1, 3)), stride)


def _nonlinearity(b: Builder, v: Drawn, x: int) -> int:
    return b.add(Activation(v.choose(NONLINEARITIES)), x, name="act")


def _convolution(b: Builder, v: Drawn, x: int) -> int:
    x = conv(b, x, v.choose(CHANNELS), v.kernel(3), bias=True)
    if v.choose((False, True)):
        x = b.add(BatchNorm(), x)
    return _nonlinearity(b, v, x) if v.choose((False, True)) else x


def _grouped(b: Builder, v: Drawn, x: int) -> int:
    groups = _divisor(b, v, x)
    return conv(
        b, x, groups * v.choose((4, 8, 16, 24, 32)), v.kernel(3), v.choose((1, 1, _stride(b, x))), groups=groups
    )


def _depthwise(b: Builder, v: Drawn, x: int) -> int:
    return conv(b, x, b.channels(x), v.kernel(3), v.choose((1, 1, _stride(b, x))), groups=b.channels(x), bias=True)


def _normalised_first(b: Builder, v: Drawn, x: int) -> int:
    return _nonlinearity(b, v, b.add(BatchNorm(), x))


def _channels_last(b: Builder, v: Drawn, x: int) -> int:
    y = b.add(Permute(channels_last=True), x)
    normalised, multiplied = v.choose(((True, False), (False, True), (True, True)))  # else nothing would be left of it
    if normalised:
        y = b.add(LayerNorm(), y)
    if multiplied:
        y = _nonlinearity(b, v, b.add(Linear(v.choose(CHANNELS)), y))
    return b.add(Permute(channels_last=False), y)


def _joined(b: Builder, v: Drawn, x: int) -> int:
    branches = [conv(b, x, v.choose(CHANNELS[:10]), v.choose((1, 1, 3)), bias=True) for _ in range(v.choose((1, 2, 3)))]
    return b.add(Concat(), x, *branches)


def _split(b: Builder, v: Drawn, x: int) -> int:
    first = b.channels(x) // 2
    if not first:
        return x
    kept, changed = b.add_many(Split((first, b.channels(x) - first)), x)
    return b.add(Concat(), kept, _nonlinearity(b, v, changed))


def _sum(b: Builder, v: Drawn, x: int) -> int:
    y = _nonlinearity(b, v, x)
    y = b.add(ChannelScale(), y) if v.choose((False, True)) else y
    return b.add(Add(), x, y)


def _gate(b: Builder, v: Drawn, x: int) -> int:
    squeezed = max(1, b.channels(x) // v.choose((4, 8, 16)))
    gate = v.choose((Nonlinearity.SIGMOID, Nonlinearity.HARD_SIGMOID))
    return squeeze_excite(b, x, squeezed, v.choose(NONLINEARITIES), gate)


def _pool(b: Builder, v: Drawn, x: int) -> int:
    kernel, stride = v.choose((2, 3)), _stride(b, x)
    maximum = v.choose((True, False))
    return (max_pool if maximum else average_pool)(b, x, kernel, stride, kernel // 2)


def _shuffle(b: Builder, v: Drawn, x: int) -> int:
    return b.add(ChannelShuffle(_divisor(b, v, x)), x)


def _stride(b: Builder, x: int) -> int:
    return 2 if b.shape(x)[1] >= 4 else 1


def _divisor(b: Builder, v: Drawn, x: int) -> int:
    return v.choose([groups for groups in (1, 2, 3, 4, 8, 16) if b.channels(x) % groups == 0])


_KINDS: tuple[Step, ...] = (
    _convolution, _convolution, _convolution, _grouped, _grouped, _depthwise, _depthwise, _normalised_first,
    _normalised_first, _channels_last, _channels_last, _channels_last, _joined, _joined, _joined, _split, _sum, _gate,
    _gate, _nonlinearity, _pool, _shuffle,
)  # fmt: skip

FAMILY = Family("mixed", {}, draw)
