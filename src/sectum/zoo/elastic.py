"""Elastic networks: a stem, stages of equal blocks and a head, whose sizes are chosen from lists.

A :class:`Space` is data: the blocks of its stages, and for each size the choices that there are. The spaces of
:func:`sectum.zoo.space_file.names` are files beside this module; a user's own has the same form.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from sectum.errors import UsageError
from sectum.zoo.architecture import Architecture, Builder
from sectum.zoo.blocks import conv_bn, depthwise_bn, max_pool, squeeze_excite
from sectum.zoo.layers import Activation, Add, Flatten, GlobalAveragePool, Linear, Nonlinearity
from sectum.zoo.variation import make_divisible

Size = int | float
Sizes = tuple[Size, ...]


class Block(StrEnum):
    """What a stage repeats."""

    PLAIN = "plain"
    """Convolution, as in VGG."""
    RESIDUAL = "residual"
    """Two convolutions beside a shortcut, as in ResNet-18."""
    BOTTLENECK = "bottleneck"
    """1x1, convolution, 1x1 to ``expansion`` times as many channels, beside a shortcut, as in ResNet-50."""
    INVERTED = "inverted"
    """1x1 to ``expansion`` times as many channels, depthwise, 1x1, as in MobileNet V2 and V3."""
    SEPARABLE = "separable"
    """Depthwise convolution and 1x1, as in MobileNet V1."""


@dataclass(frozen=True, slots=True)
class Stem:
    """What comes before the stages.

    Attributes:
        channels: choices for its output channels.
        kernel: choices for the width of its kernel.
        stride: of its convolution.
        pool: whether it ends in a maximum over 3x3 with stride 2.
        activation: its nonlinearity.
    """

    channels: Sizes
    kernel: Sizes = (3,)
    stride: int = 2
    pool: bool = False
    activation: Nonlinearity = Nonlinearity.RELU


@dataclass(frozen=True, slots=True)
class Stage:
    """Equal blocks in a row.

    Attributes:
        block: what is repeated.
        channels: choices for its output channels; those of a bottleneck are times ``expansion``.
        depth: choices for the number of blocks.
        kernel: choices for the width of its square kernels, odd.
        expansion: choices for the inner channels of a block over the channels that enter it, or for what a bottleneck
            multiplies by.
        stride: of the first block.
        activation: its nonlinearity.
        squeeze: an inverted block's channels over those that its squeeze-and-excitation computes with; 0 for none.
    """

    block: Block
    channels: Sizes
    depth: Sizes = (1,)
    kernel: Sizes = (3,)
    expansion: Sizes = (1,)
    stride: int = 1
    activation: Nonlinearity = Nonlinearity.RELU
    squeeze: int = 0


@dataclass(frozen=True, slots=True)
class Head:
    """What comes after the stages and before the scores of the classes.

    Attributes:
        channels: of a last 1x1 convolution; 0 for none.
        hidden: features of a hidden fully connected layer; 0 for none.
        activation: of both.
    """

    channels: int = 0
    hidden: int = 0
    activation: Nonlinearity = Nonlinearity.RELU


@dataclass(frozen=True)
class Space:
    """Networks that differ in sizes only.

    Attributes:
        name: of the space; its networks' names begin with it.
        stem: before the stages.
        stages: at least one.
        head: after the stages.
        resolution: choices for height and width of the input, in pixels.
        width: choices for what multiplies all channels, rounded to multiples of 8.
        classes: outputs of the networks.
    """

    name: str
    stem: Stem
    stages: tuple[Stage, ...]
    head: Head = field(default_factory=Head)
    resolution: Sizes = (224,)
    width: Sizes = (1,)
    classes: int = 1000

    @cached_property
    def sizes(self) -> Mapping[str, Sizes]:
        """Choices for each size by name: ``resolution``, ``width``, ``stem.kernel``, ``stage1.depth``, ..."""
        found = {"resolution": self.resolution, "width": self.width}
        found |= {"stem.channels": self.stem.channels, "stem.kernel": self.stem.kernel}
        for number, stage in enumerate(self.stages, 1):
            found |= {f"stage{number}.{name}": getattr(stage, name) for name in _ELASTIC}
        return found

    @cached_property
    def parameters(self) -> Mapping[str, Sizes]:
        """Those of `sizes` with more than one choice: what a search chooses."""
        return {name: choices for name, choices in self.sizes.items() if len(choices) > 1}

    @property
    def count(self) -> int:
        """How many combinations of choices there are."""
        return math.prod(map(len, self.parameters.values()))

    @property
    def smallest(self) -> dict[str, Size]:
        """The least choice for each parameter."""
        return self.at(0.0)

    def at(self, share: float) -> dict[str, Size]:
        """For each parameter the choice that lies so far between the least (0) and the largest (1)."""
        ordered = {name: sorted(choices) for name, choices in self.parameters.items()}
        return {name: choices[round(share * (len(choices) - 1))] for name, choices in ordered.items()}

    def build(self, chosen: Mapping[str, Size], *, name: str = "") -> Architecture:
        """Make one network.

        Args:
            chosen: a choice for each of `parameters`.
            name: the network's name; empty for the space's name and eight digits that tell the choices.

        Raises:
            UsageError: a parameter is missing or unknown, or has a value that is none of its choices.
        """
        if unknown := sorted(chosen.keys() - self.parameters.keys()):
            raise UsageError(f"space '{self.name}' has no parameter '{unknown[0]}': it has {_listed(self.parameters)}")
        for parameter, choices in self.parameters.items():
            if parameter not in chosen:
                raise UsageError(f"space '{self.name}': '{parameter}' is missing: choose one of {_listed(choices)}")
            if chosen[parameter] not in choices:
                raise UsageError(
                    f"space '{self.name}': '{parameter}' is {chosen[parameter]}: choose one of {_listed(choices)}"
                )
        all_sizes = {of: choices[0] for of, choices in self.sizes.items()} | dict(chosen)
        return _Wiring(self, all_sizes).run(name or self.name_of(chosen))

    def name_of(self, chosen: Mapping[str, Size]) -> str:
        """The name of the network of these choices."""
        text = repr(sorted((name, float(size)) for name, size in chosen.items()))
        return f"{self.name}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"


_ELASTIC = ("channels", "depth", "kernel", "expansion")


class _Wiring:
    """Makes one network of a space."""

    def __init__(self, space: Space, sizes: Mapping[str, Size]) -> None:
        self.space, self.sizes = space, sizes

    def run(self, name: str) -> Architecture:
        b = Builder(name, self.space.name, int(self.sizes["resolution"]), _seed(name))
        x = self._stem(b)
        for number, stage in enumerate(self.space.stages, 1):
            x = self._stage(b, x, number, stage)
        return b.finish(self._head(b, x))

    def _channels(self, published: Size) -> int:
        width = self.sizes["width"]
        return int(published) if width == 1 else make_divisible(published * width)

    def _stem(self, b: Builder) -> int:
        stem = self.space.stem
        channels, kernel = self._channels(self.sizes["stem.channels"]), int(self.sizes["stem.kernel"])
        with b.scope("stem"):
            x = conv_bn(b, b.input, channels, kernel, stem.stride, stem.activation)
            return max_pool(b, x, 3, 2, 1) if stem.pool else x

    def _stage(self, b: Builder, x: int, number: int, stage: Stage) -> int:
        channels, depth, kernel, expansion = (self.sizes[f"stage{number}.{name}"] for name in _ELASTIC)
        for index in range(int(depth)):
            stride = stage.stride if index == 0 else 1
            with b.scope(f"stage{number}.block{index}"):
                x = _block(b, x, stage, self._channels(channels), int(kernel), expansion, stride)
        return x

    def _head(self, b: Builder, x: int) -> int:
        head = self.space.head
        with b.scope("head"):
            if head.channels:
                x = conv_bn(b, x, self._channels(head.channels), act=head.activation)
            x = b.add(Flatten(), b.add(GlobalAveragePool(), x))
            if head.hidden:
                x = b.add(Linear(self._channels(head.hidden)), x)
                x = b.add(Activation(head.activation), x, name="act")
            return b.add(Linear(self.space.classes), x)


def _block(b: Builder, x: int, stage: Stage, channels: int, kernel: int, expansion: Size, stride: int) -> int:
    act = stage.activation
    match stage.block:
        case Block.PLAIN:
            return conv_bn(b, x, channels, kernel, stride, act)
        case Block.SEPARABLE:
            return conv_bn(b, depthwise_bn(b, x, kernel, stride, act), channels, act=act)
        case Block.RESIDUAL:
            y = conv_bn(b, x, channels, kernel, stride, act)
            return _joined(b, x, conv_bn(b, y, channels, kernel, act=None), stride, act)
        case Block.BOTTLENECK:
            y = conv_bn(b, conv_bn(b, x, channels, act=act), channels, kernel, stride, act)
            return _joined(b, x, conv_bn(b, y, int(channels * expansion), act=None), stride, act)
        case Block.INVERTED:
            inner = make_divisible(b.channels(x) * expansion)
            y = conv_bn(b, x, inner, act=act) if expansion != 1 else x
            y = depthwise_bn(b, y, kernel, stride, act)
            if stage.squeeze:
                squeezed = make_divisible(b.channels(y) / stage.squeeze)
                y = squeeze_excite(b, y, squeezed, Nonlinearity.RELU, Nonlinearity.HARD_SIGMOID)
            y = conv_bn(b, y, channels, act=None)
            return b.add(Add(), x, y) if stride == 1 and b.shape(x) == b.shape(y) else y


def _joined(b: Builder, x: int, y: int, stride: int, act: Nonlinearity) -> int:
    """The sum of a branch and its shortcut, and the nonlinearity."""
    if b.shape(x) != b.shape(y):
        with b.scope("shortcut"):
            x = conv_bn(b, x, b.channels(y), 1, stride, None)
    return b.add(Activation(act), b.add(Add(), y, x), name="act")


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def _listed(values: object) -> str:
    assert isinstance(values, Mapping | tuple)
    return ", ".join(map(str, values))
