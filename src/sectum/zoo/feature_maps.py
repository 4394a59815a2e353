"""Writes layers on signals, spectrograms and images operator by operator, and follows their shapes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from sectum.zoo.lowered import Attribute, Weight, float32
from sectum.zoo.precision import Precision, linear, product
from sectum.zoo.program import Write, Writer
from sectum.zoo.variation import Uniform

Option = TypeVar("Option")

LARGEST_OPERATIONS = 2_500_000_000
LARGEST_WEIGHT_BYTES = 256 << 20
LARGEST_ACTIVATION = 1 << 24
"""Elements of one activation."""
_OPERATIONS_FOR_AN_ELEMENT = 8
_SLOWNESS = {1: 2, 2: 1, 3: 4}
"""Of convolutions by their spatial dimensions: those of images have kernels of their own."""
_SCALE, _MIDDLE = 0.05, 128


class Draws:
    """Draws sizes and styles; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - a network, not a secret

    def of(self, *options: Option) -> Option:
        """One of the options."""
        return self._rng.choice(options)

    def chance(self, share: float) -> bool:
        """True in a share of the draws."""
        return self._rng.random() < share

    def size(self, least: int, most: int, step: int = 1) -> int:
        """Log-uniform, a multiple of ``step``."""
        drawn: float = least * (most / least) ** self._rng.random()
        return max(step, round(drawn / step) * step)

    def precision(self, *reduced: Precision) -> Precision:
        """Float in 60 % of the draws, else one of the reduced ones."""
        return Precision.FLOAT if self.chance(0.6) else self.of(*reduced)


Network = Callable[["Layers", Draws, float], None]
"""Writes a random network with all widths times a factor."""


def draw(network: Network, rng: Uniform) -> Write:
    """Draw a network; it gets narrower until it is affordable."""
    seed, width = int(rng.random() * 2**48), 1.0
    while True:
        trial = Layers(Writer(""), 1)
        network(trial, Draws(seed), width)
        if trial.affordable or width < 1 / 64:
            return partial(write, network, seed, width)
        width *= 0.7


def write(network: Network, seed: int, width: float, w: Writer, batch: int) -> None:
    """Write the network that a seed draws."""
    network(Layers(w, batch), Draws(seed), width)


class Layers:
    """Layers on data with the channels before the spatial dimensions.

    Args:
        writer: gets the operators.
        batch: number of samples.
        precision: of products. In ``STATIC`` convolutions are computed in 8 bits.
        quantize_all: in ``STATIC``, whether the operators between convolutions are computed in 8 bits, too.

    Attributes:
        shapes: of all activations, by name.
        operations: of the network so far, times the floating-point operations that could be done in their time.
    """

    def __init__(
        self, writer: Writer, batch: int, precision: Precision = Precision.FLOAT, *, quantize_all: bool = False
    ) -> None:
        self.w, self.batch, self.precision, self.quantize_all = writer, batch, precision, quantize_all
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.operations = 0
        self._zeros: dict[str, int] = {}  # zero points of activations that were quantized and are floats again
        self._pair_of: dict[str, str] = {}

    @property
    def static(self) -> bool:
        """Whether convolutions are computed in 8 bits."""
        return self.precision is Precision.STATIC

    @property
    def affordable(self) -> bool:
        """Whether the network so far is small enough to be measured often."""
        weights = sum(c.n_bytes for c in self.w.lowered.constants.values() if isinstance(c, Weight))
        largest = max(map(math.prod, self.shapes.values()), default=0)
        within = self.operations <= LARGEST_OPERATIONS and weights <= LARGEST_WEIGHT_BYTES
        return within and largest <= LARGEST_ACTIVATION

    def input(self, name: str, *shape: int, dtype: str = "float32") -> str:
        """Declare an input."""
        return self._made(self.w.input(name, *shape, dtype=dtype), shape)

    def output(self, x: str, dtype: str = "float32") -> None:
        """Declare an output."""
        self.w.output(x, dtype)

    def _made(self, name: str, shape: Sequence[int]) -> str:
        self.shapes[name] = tuple(shape)
        self.operations += _OPERATIONS_FOR_AN_ELEMENT * math.prod(shape)
        return name

    def channels(self, x: str) -> int:
        """Channels of an activation."""
        return self.shapes[x][1]

    def pair(self, x: str, zero: int = _MIDDLE) -> str:
        """Quantize an activation to 8 bits and back, once."""
        if x in self._zeros:
            return x
        if x not in self._pair_of:
            point, scale = self.w.scalar(zero, "uint8"), self.w.scalar(_SCALE)
            quantized = self.w.op("QuantizeLinear", x, scale, point)
            self._pair_of[x] = made = self.op("DequantizeLinear", self.shapes[x], quantized, scale, point)
            self._zeros[made] = zero
        return self._pair_of[x]

    def op(self, kind: str, shape: Sequence[int], *inputs: str, **attributes: Attribute) -> str:
        """Append an operator that makes a float activation of a shape."""
        (name,) = self.w.ops(kind, *inputs, outputs=1, domain="", **attributes)
        return self._made(name, shape)

    def same(self, kind: str, x: str, *others: str, **attributes: Attribute) -> str:
        """Append an operator whose result has the shape of its first input."""
        return self.op(kind, self.shapes[x], x, *others, **attributes)

    def moved(self, kind: str, shape: Sequence[int], x: str, *others: str, **attributes: Attribute) -> str:
        """Append an operator that is computed in 8 bits where all that has such a form is."""
        made = self.op(kind, shape, x, *others, **attributes)
        return self.pair(made, self._zeros[x]) if self.quantize_all and x in self._zeros else made

    def conv(
        self, x: str, out: int, kernel: int | tuple[int, ...], stride: int | tuple[int, ...] = 1, *,
        dilation: int = 1, group: int = 1, bias: bool = True, pad: bool = True, act: str = "",
    ) -> str:  # fmt: skip
        """A convolution, with zeros around it that keep the size of odd kernels at stride 1."""
        shape = self.shapes[x]
        rank = len(shape) - 2
        kernels = (kernel,) * rank if isinstance(kernel, int) else kernel
        strides = (stride,) * rank if isinstance(stride, int) else stride
        pads = tuple((k - 1) * dilation // 2 if pad else 0 for k in kernels)
        size = tuple(
            (n + 2 * p - dilation * (k - 1) - 1) // s + 1
            for n, p, k, s in zip(shape[2:], pads, kernels, strides, strict=True)
        )
        weights = (out, shape[1] // group, *kernels)
        gain = math.sqrt(2) if act not in ("", "Tanh") else 1.0
        if self.static:
            inputs = [self.pair(x), *self._integers(weights, gain, bias=bias)]
        else:
            inputs = [x, self.stored(*weights, gain=gain), *([self.w.vector(out)] if bias else [])]
        attributes: dict[str, Attribute] = {
            "dilations": (dilation,) * rank, "group": group, "kernel_shape": kernels, "pads": pads * 2,
            "strides": strides,
        }  # fmt: skip
        self.operations += 2 * self.batch * math.prod(size) * math.prod(weights) * _SLOWNESS[rank]
        y = self.op("Conv", (shape[0], out, *size), *inputs, **attributes)
        if self.static and act == "Relu":
            return self.pair(y, 0)  # what is below 0 is cut off by the quantization
        y = self.pair(y) if self.static else y
        return self.act(y, act)

    def stored(self, *shape: int, gain: float = 1.0, fan_in: int = 0) -> str:
        """A weight, stored in 16 bits where weights are."""
        if self.precision is Precision.HALF_WEIGHTS:
            half = self.w.weight(*shape, gain=gain, fan_in=fan_in, dtype="float16")
            return self.w.op("Cast", half, to=1)
        return self.w.weight(*shape, gain=gain, fan_in=fan_in)

    def _integers(self, weights: tuple[int, ...], gain: float, *, bias: bool) -> list[str]:
        """A weight of 8 bits with a scale for each filter, and a bias of 32 bits in units of the products."""
        w, out = self.w, weights[0]
        middle = gain / math.sqrt(math.prod(weights[1:])) / 42
        scales = [float32(middle * (1 + (7 * i % 13 - 6) / 100)) for i in range(out)]
        stored = w.weight(*weights, dtype="int8")
        zeros = w.values(*[0] * out, dtype="int8")
        made = [w.op("DequantizeLinear", stored, w.values(*scales, dtype="float32"), zeros, axis=0)]
        if bias:
            units = [float32(scale * float32(_SCALE)) for scale in scales]
            sums = w.values(*((37 * i + out) % 41 - 20 for i in range(out)), dtype="int32")
            zeros = w.values(*[0] * out, dtype="int32")
            made.append(w.op("DequantizeLinear", sums, w.values(*units, dtype="float32"), zeros, axis=0))
        return made

    def transposed(self, x: str, out: int, kernel: int, stride: int) -> str:
        """A transposed convolution that multiplies the size by its stride."""
        shape = self.shapes[x]
        rank = len(shape) - 2
        pad = (kernel - stride) // 2
        extra = (kernel - stride) % 2
        size = tuple(n * stride for n in shape[2:])
        weight = self.stored(shape[1], out, *(kernel,) * rank, fan_in=shape[1] * math.ceil(kernel / stride) ** rank)
        self.operations += 2 * self.batch * math.prod(shape[1:]) * out * kernel**rank * _SLOWNESS[rank]
        attributes: dict[str, Attribute] = {"dilations": (1,) * rank, "group": 1, "kernel_shape": (kernel,) * rank}
        if extra:
            attributes["output_padding"] = (1,) * rank
            pad += 1
        attributes |= {"pads": (pad,) * 2 * rank, "strides": (stride,) * rank}
        return self.op("ConvTranspose", (shape[0], out, *size), x, weight, self.w.vector(out), **attributes)

    def norm(self, x: str, kind: str = "BatchNormalization") -> str:
        """A normalization by stored statistics, or by those of each instance."""
        channels, w = self.channels(x), self.w
        scale, shift = w.vector(channels, mean=1.0), w.vector(channels)
        if kind == "InstanceNormalization":
            return self.same(kind, x, scale, shift, epsilon=1e-5)
        mean, variance = w.vector(channels), w.vector(channels, mean=1.0)
        return self.same(kind, x, scale, shift, mean, variance, epsilon=1e-5, momentum=0.9)

    def act(self, x: str, kind: str) -> str:
        """An activation: an operator's name, ``SiLU``, ``Relu6``, ``GLU`` or nothing."""
        match kind:
            case "":
                return x
            case "SiLU":
                return self.mul(x, self.moved("Sigmoid", self.shapes[x], x))
            case "Relu6":
                return self.same("Clip", x, self.w.scalar(0.0), self.w.scalar(6.0))
            case "PRelu":
                rank = len(self.shapes[x]) - 2
                slopes = self.w.vector(0, mean=0.25, shape=(self.channels(x), *(1,) * rank))
                return self.same(kind, x, slopes)
            case "GLU":
                first, second = self.split(x, 2)
                return self.mul(first, self.same("Sigmoid", second))
            case "Elu":
                return self.same(kind, x, alpha=1.0)
            case "LeakyRelu":
                return self.same(kind, x, alpha=0.1)
            case _:
                return self.same(kind, x)

    def split(self, x: str, parts: int, axis: int = 1) -> tuple[str, ...]:
        """Cut an axis into equal parts."""
        shape = list(self.shapes[x])
        shape[axis] //= parts
        names = self.w.ops("Split", x, self.w.values(*(shape[axis],) * parts), outputs=parts, axis=axis)
        return tuple(self._made(name, shape) for name in names)

    def mul(self, a: str, b: str) -> str:
        """A product of two activations, element by element."""
        return self._binary("Mul", a, b)

    def add(self, a: str, b: str) -> str:
        """A sum of two activations."""
        return self._binary("Add", a, b)

    def _binary(self, kind: str, a: str, b: str) -> str:
        shape = tuple(map(max, self.shapes[a], self.shapes[b]))
        if self.quantize_all:
            return self.pair(self.op(kind, shape, self.pair(a), self.pair(b)))
        return self.op(kind, shape, a, b)

    def concat(self, *parts: str, axis: int = 1) -> str:
        """Activations one after another along an axis."""
        shape = list(self.shapes[parts[0]])
        shape[axis] = sum(self.shapes[part][axis] for part in parts)
        if self.quantize_all and all(part in self._zeros for part in parts):
            return self.pair(self.op("Concat", shape, *parts, axis=axis))
        return self.op("Concat", shape, *parts, axis=axis)

    def slice(self, x: str, axis: int, start: int, end: int) -> str:
        """A range of an axis."""
        shape, values = list(self.shapes[x]), self.w.values
        shape[axis] = end - start
        return self.op("Slice", shape, x, values(start), values(end), values(axis), values(1))

    def pool(self, x: str, kernel: int, stride: int | None = None, *, pad: int = 0, kind: str = "MaxPool") -> str:
        """A pool of windows; the stride is the kernel's size if it is not given."""
        shape, step = self.shapes[x], stride or kernel
        rank = len(shape) - 2
        size = tuple((n + 2 * pad - kernel) // step + 1 for n in shape[2:])
        return self.moved(
            kind, (*shape[:2], *size), x, kernel_shape=(kernel,) * rank, pads=(pad,) * 2 * rank, strides=(step,) * rank
        )  # fmt: skip

    def resize(self, x: str, factor: int, mode: str = "nearest") -> str:
        """Every spatial dimension times a factor, as PyTorch's exporter writes it."""
        shape = self.shapes[x]
        scales = self.w.values(1.0, 1.0, *[float(factor)] * (len(shape) - 2), dtype="float32")
        size = (*shape[:2], *(n * factor for n in shape[2:]))
        if mode == "nearest":
            return self.moved(
                "Resize", size, x, "", scales, mode=mode, coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )  # fmt: skip
        return self.op("Resize", size, x, "", scales, mode=mode, coordinate_transformation_mode="half_pixel")

    def mean(self, x: str) -> str:
        """The mean over the spatial dimensions, which stay with size 1."""
        shape = self.shapes[x]
        return self.moved("GlobalAveragePool", (*shape[:2], *(1,) * (len(shape) - 2)), x)

    def excite(self, x: str, inner: int, gate: str = "Sigmoid") -> str:
        """Weights of channels from the mean of each: squeeze and excitation."""
        y = self.conv(self.mean(x), inner, 1, act="Relu")
        y = self.conv(y, self.channels(x), 1)
        y = self.same(gate, y, alpha=1 / 6, beta=0.5) if gate == "HardSigmoid" else self.same(gate, y)
        return self.mul(x, y)

    def reshape(self, x: str, *shape: int) -> str:
        """A Reshape to a whole shape."""
        return self.moved("Reshape", shape, x, self.w.values(*shape))

    def transpose(self, x: str, *perm: int) -> str:
        """Axes in another order."""
        return self.moved("Transpose", [self.shapes[x][axis] for axis in perm], x, perm=perm)

    def squeeze(self, x: str, axis: int) -> str:
        """Drop an axis of size 1."""
        shape = self.shapes[x]
        return self.op("Squeeze", shape[:axis] + shape[axis + 1 :], x, self.w.values(axis))

    def unsqueeze(self, x: str, axis: int) -> str:
        """Insert an axis of size 1."""
        shape = self.shapes[x]
        return self.op("Unsqueeze", (*shape[:axis], 1, *shape[axis:]), x, self.w.values(axis))

    def pad(self, x: str, amounts: Sequence[int], mode: str = "constant") -> str:
        """Put elements before and behind: amounts for all axes before, then for all behind."""
        shape = self.shapes[x]
        size = [n + amounts[i] + amounts[i + len(shape)] for i, n in enumerate(shape)]
        return self.op("Pad", size, x, self.w.values(*amounts), mode=mode)

    def dense(self, x: str, out: int, *, bias: bool = True) -> str:
        """A fully connected layer on the last axis."""
        *rows, inner = self.shapes[x]
        self.operations += 2 * math.prod(rows) * inner * out
        precision = Precision.DYNAMIC if self.static else self.precision
        made = (linear if bias else product)(self.w, x, inner, out, precision)
        return self._made(made, (*rows, out))

    def gemm(self, x: str, out: int) -> str:
        """A fully connected layer on rows, as PyTorch's exporter writes it."""
        rows, inner = self.shapes[x]
        self.operations += 2 * rows * inner * out
        weight = self.w.weight(out, inner, fan_in=inner)
        return self.op("Gemm", (rows, out), x, weight, self.w.vector(out), alpha=1.0, beta=1.0, transB=1)
