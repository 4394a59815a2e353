"""The layers that networks are made of: what each computes, as data. Nothing here knows a framework.

A layer is told the shapes of its inputs and answers with the shape of its output and with the shapes of its
trained parameters. Shapes leave the batch out: ``(channels, height, width)`` for a feature map,
``(features,)`` for a vector, ``(height, width, channels)`` in a channels-last block, between two
:class:`Permute`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

from sectum.errors import ShapeInconsistent

Shape = tuple[int, ...]
Pair = tuple[int, int]


class Nonlinearity(StrEnum):
    """Elementwise functions."""

    RELU = "relu"
    RELU6 = "relu6"
    SIGMOID = "sigmoid"
    SILU = "silu"
    HARD_SIGMOID = "hardsigmoid"
    HARD_SWISH = "hardswish"
    GELU = "gelu"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with one input whose output has the input's shape, and without parameters."""

    def shapes(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Shapes of the outputs, from the shapes of the inputs.

        Raises:
            ShapeInconsistent: the layer cannot take these inputs.
        """
        _require(len(inputs) == 1, self, inputs, "one input")
        return inputs

    def parameters(self, inputs: tuple[Shape, ...]) -> Mapping[str, Shape]:
        """Shapes of the trained parameters by role (``weight``, ``bias``)."""
        del inputs
        return {}


def _require(condition: bool, layer: Layer, inputs: tuple[Shape, ...], expected: str) -> None:
    if not condition:
        raise ShapeInconsistent(
            f"{layer} cannot follow tensors of shape {list(inputs)}: it needs {expected}; "
            "choose a larger resolution or other channel counts"
        )


def _window(size: int, kernel: int, stride: int, padding: int, *, ceil: bool = False) -> int:
    """Positions of a sliding window; with ``ceil`` a window may overhang, but must start inside."""
    span = size + 2 * padding - kernel
    if span < 0:
        return 0
    count = (span + stride - 1 if ceil else span) // stride + 1
    if ceil and (count - 1) * stride >= size + padding:
        count -= 1
    return count


@dataclass(frozen=True, slots=True)
class Conv(Layer):
    """Two-dimensional convolution; ``padding`` is added on both sides of each axis."""

    out_channels: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    groups: int = 1
    bias: bool = False

    def shapes(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """``(c, h, w)`` to ``(out_channels, h', w')``."""
        _require(len(inputs) == 1 and len(inputs[0]) == 3, self, inputs, "one feature map")
        channels, *space = inputs[0]
        divisible = channels % self.groups == 0 and self.out_channels % self.groups == 0
        _require(divisible, self, inputs, f"channels divisible by {self.groups} groups")
        height, width = map(_window, space, self.kernel, self.stride, self.padding)
        _require(height > 0 and width > 0, self, inputs, "a feature map at least as large as its kernel")
        return ((self.out_channels, height, width),)

    def parameters(self, inputs: tuple[Shape, ...]) -> Mapping[str, Shape]:
        """``weight`` as (out, in / groups, kernel height, kernel width), and ``bias``."""
        weight = (self.out_channels, inputs[0][0] // self.groups, *self.kernel)
        return {"weight": weight, "bias": (self.out_channels,)} if self.bias else {"weight": weight}


@dataclass(frozen=True, slots=True)
class BatchNorm(Layer):
    """Batch normalisation with stored statistics, which are not counted as parameters."""

    epsilon: float = 1e-5

    def parameters(self, inputs: tuple[Shape, ...]) -> Mapping[str, Shape]:
        """``weight`` and ``bias``, one element a channel."""
        return {"weight": (inputs[0][0],), "bias": (inputs[0][0],)}


@dataclass(frozen=True, slots=True)
class LayerNorm(Layer):
    """Normalisation over the last axis."""

    epsilon: float = 1e-6

    def parameters(self, inputs: tuple[Shape, ...]) -> Mapping[str, Shape]:
        """``weight`` and ``bias`` over the last axis."""
        return {"weight": (inputs[0][-1],), "bias": (inputs[0][-1],)}


@dataclass(frozen=True, slots=True)
class ChannelScale(Layer):
    """Multiplication of each channel of a feature map by a trained number."""

    def parameters(self, inputs: tuple[Shape, ...]) -> Mapping[str, Shape]:
        """``weight`` as (channels, 1, 1)."""
        return {"weight": (inputs[0][0], 1, 1)}


@dataclass(frozen=True, slots=True)
class Activation(Layer):
    """An elementwise function."""

    kind: Nonlinearity


@dataclass(frozen=True, slots=True)
class Pool(Layer):
    """Maximum or average over a sliding window; an average counts the padding where ``count_padding``."""

    maximum: bool
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    ceil: bool = False
    count_padding: bool = True

    def shapes(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """``(c, h, w)`` to ``(c, h', w')``."""
        _require(len(inputs) == 1 and len(inputs[0]) == 3, self, inputs, "one feature map")
        channels, *space = inputs[0]
        height, width = (
            _window(*axis, ceil=self.ceil) for axis in zip(space, self.kernel, self.stride, self.padding, strict=True)
        )
        _require(height > 0 and width > 0, self, inputs, "a feature map at least as large as its window")
        return ((channels, height, width),)


@dataclass(frozen=True, slots=True)
class GlobalAveragePool(Layer):
    """Average over all positions."""

    def shapes(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """``(c, h, w)`` to ``(c, 1, 1)``."""
        _require(len(inputs) == 1 and len(inputs[0]) == 3, self, inputs, "one feature map")
        return ((inputs[0][0], 1, 1),)


@dataclass(frozen=True, slots=True)
class Flatten(Layer):
    """All that one sample holds, as a vector."""

    def shapes(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """``(c, h, w)`` to ``(c * h * w,)``."""
        _require(len(inputs) == 1 and len(inputs[0]) == 3, self, inputs, "one feature map")
        channels, height, width = inputs[0]
        return ((channels * height * width,),)


@dataclass(frozen=True, slots=True)
class Linear(Layer):
    """Fully connected layer over the last axis, with a bias."""

    out_features: int

    def shapes(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """``(..., in)`` to ``(..., out_features)``."""
        _require(len(inputs) == 1, self, inputs, "one input")
        return ((*inputs[0][:-1], self.out_features),)

    def parameters(self, inputs: tuple[Shape, ...]) -> Mapping[str, Shape]:
        """``weight`` as (out, in), and ``bias``."""
        return {"weight": (self.out_features, inputs[0][-1]), "bias": (self.out_features,)}


@dataclass(frozen=True, slots=True)
class Permute(Layer):
    """To channels-last, or back to channels-first."""

    channels_last: bool

    def shapes(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """``(c, h, w)`` to ``(h, w, c)``, or back."""
        _require(len(inputs) == 1 and len(inputs[0]) == 3, self, inputs, "one feature map")
        a, b, c = inputs[0]
        return ((b, c, a) if self.channels_last else (c, a, b),)


@dataclass(frozen=True, slots=True)
class Add(Layer):
    """Sum of tensors of one shape."""

    def shapes(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """All inputs and the output have one shape."""
        _require(len(inputs) >= 2 and len(set(inputs)) == 1, self, inputs, "tensors of one shape")
        return inputs[:1]


@dataclass(frozen=True, slots=True)
class Gate(Layer):
    """A feature map times one number a channel, as squeeze-and-excitation does."""

    def shapes(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """``(c, h, w)`` and ``(c, 1, 1)`` to ``(c, h, w)``."""
        fits = len(inputs) == 2 and inputs[1] == (inputs[0][0], 1, 1)
        _require(fits, self, inputs, "a feature map, and one number for each of its channels")
        return inputs[:1]


@dataclass(frozen=True, slots=True)
class Concat(Layer):
    """Feature maps joined along the channels."""

    def shapes(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """``(c1, h, w)``, ``(c2, h, w)``, ... to ``(c1 + c2 + ..., h, w)``."""
        fits = len(inputs) >= 2 and len({shape[1:] for shape in inputs}) == 1
        _require(fits, self, inputs, "feature maps of one height and width")
        return ((sum(shape[0] for shape in inputs), *inputs[0][1:]),)


@dataclass(frozen=True, slots=True)
class Split(Layer):
    """A feature map cut along the channels into parts of the given sizes."""

    sizes: tuple[int, ...]

    def shapes(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """``(c, h, w)`` to one ``(size, h, w)`` for each size."""
        fits = len(inputs) == 1 and sum(self.sizes) == inputs[0][0] and min(self.sizes) > 0
        _require(fits, self, inputs, f"{sum(self.sizes)} channels, and parts that are not empty")
        return tuple((size, *inputs[0][1:]) for size in self.sizes)

    @property
    def starts(self) -> tuple[int, ...]:
        """First channel of each part."""
        return (0, *accumulate(self.sizes[:-1]))


@dataclass(frozen=True, slots=True)
class ChannelShuffle(Layer):
    """Channels of all groups interleaved."""

    groups: int

    def shapes(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Keep the input's shape, whose channels the groups must divide."""
        fits = len(inputs) == 1 and len(inputs[0]) == 3 and inputs[0][0] % self.groups == 0
        _require(fits, self, inputs, f"channels divisible by {self.groups}")
        return inputs
