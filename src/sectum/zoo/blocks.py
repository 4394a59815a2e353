"""Combinations of layers that several families share."""

from __future__ import annotations

from sectum.zoo.architecture import Builder
from sectum.zoo.layers import (
    Activation,
    BatchNorm,
    Conv,
    Flatten,
    Gate,
    GlobalAveragePool,
    Linear,
    Nonlinearity,
    Pair,
    Pool,
)
from sectum.zoo.variation import Variation


def pair(size: int | Pair) -> Pair:
    """One size for both axes, unless both are given."""
    return (size, size) if isinstance(size, int) else size


def conv(
    b: Builder,
    x: int,
    out_channels: int,
    kernel: int | Pair = 1,
    stride: int = 1,
    *,
    padding: int | Pair | None = None,
    groups: int = 1,
    bias: bool = False,
) -> int:
    """Convolution; without ``padding`` half the kernel, which keeps height and width at stride 1."""
    size = pair(kernel)
    around = (size[0] // 2, size[1] // 2) if padding is None else pair(padding)
    return b.add(Conv(out_channels, size, pair(stride), around, groups, bias), x)


def conv_bn(
    b: Builder,
    x: int,
    out_channels: int,
    kernel: int | Pair = 1,
    stride: int = 1,
    act: Nonlinearity | None = Nonlinearity.RELU,
    *,
    padding: int | Pair | None = None,
    groups: int = 1,
    epsilon: float = 1e-5,
) -> int:
    """Convolution without bias, batch normalisation, and an activation unless it is None."""
    x = conv(b, x, out_channels, kernel, stride, padding=padding, groups=groups)
    x = b.add(BatchNorm(epsilon), x)
    return x if act is None else b.add(Activation(act), x, name="act")


def depthwise_bn(b: Builder, x: int, kernel: int, stride: int = 1, act: Nonlinearity | None = Nonlinearity.RELU) -> int:
    """Convolution of each channel by itself, batch normalisation, and an activation unless it is None."""
    channels = b.channels(x)
    return conv_bn(b, x, channels, kernel, stride, act, groups=channels)


def conv_act(
    b: Builder, x: int, out_channels: int, kernel: int = 1, stride: int = 1, *, padding: int | None = None
) -> int:
    """Convolution with a bias, and ReLU."""
    return relu(b, conv(b, x, out_channels, kernel, stride, padding=padding, bias=True))


def relu(b: Builder, x: int) -> int:
    """ReLU."""
    return b.add(Activation(Nonlinearity.RELU), x, name="act")


def max_pool(b: Builder, x: int, kernel: int, stride: int, padding: int = 0, *, ceil: bool = False) -> int:
    """Maximum over square windows."""
    return b.add(Pool(True, pair(kernel), pair(stride), pair(padding), ceil), x, name="maxpool")


def average_pool(b: Builder, x: int, kernel: int, stride: int, padding: int = 0, *, count_padding: bool = True) -> int:
    """Average over square windows."""
    layer = Pool(False, pair(kernel), pair(stride), pair(padding), False, count_padding)
    return b.add(layer, x, name="avgpool")


def pool_to(b: Builder, x: int, size: int) -> int:
    """Average down to ``size`` x ``size`` where the feature map is larger; else leave it as it is.

    ONNX has no adaptive pooling: windows of one size and stride stand for it, as exporters do.
    """
    space = b.shape(x)[1]
    if space <= size:
        return x
    stride = space // size
    return average_pool(b, x, space - (size - 1) * stride, stride)


def squeeze_excite(b: Builder, x: int, squeezed: int, act: Nonlinearity, gate: Nonlinearity) -> int:
    """Squeeze-and-excitation: each channel times a number computed from the means of all."""
    with b.scope("se"):
        s = b.add(GlobalAveragePool(), x)
        s = b.add(Activation(act), conv(b, s, squeezed, bias=True), name="act")
        s = b.add(Activation(gate), conv(b, s, b.channels(x), bias=True), name="gate")
        return b.add(Gate(), x, s, name="scale")


def hidden_classifier(b: Builder, v: Variation, x: int, classes: int, *, space: int, features: int) -> int:
    """Average down to ``space`` x ``space``, then two hidden fully connected layers and that of the classes."""
    x = pool_to(b, x, space)
    with b.scope("classifier"):
        x = b.add(Flatten(), x)
        for _ in range(2):
            x = relu(b, b.add(Linear(v.channels(features)), x))
        return b.add(Linear(classes), x)


def classifier(b: Builder, x: int, classes: int) -> int:
    """Global average, then one fully connected layer."""
    with b.scope("head"):
        x = b.add(Flatten(), b.add(GlobalAveragePool(), x))
        return b.add(Linear(classes), x)
