"""Random chains of operators that the CNN families rarely use, so that operator models are trained on them too.

Local response normalization, grouped and transposed convolution, large matrix products, transposes, resizing, padding,
gates: real models contain them (the CNNs of the onnx package, text detectors), the sampled families hardly do.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from sectum.zoo.lowered import Attribute
from sectum.zoo.program import Writer

MAX_ELEMENTS = 1 << 22

_Shape = tuple[int, ...]


class _Chain:
    """A network that is being written: one value, to which operators are applied one after the other."""

    def __init__(self, w: Writer, rng: random.Random, batch: int) -> None:
        self.w = w
        self.rng = rng
        self.batch = batch
        self.shape: _Shape = (
            batch,
            rng.choice((3, 16, 24, 32, 48, 64, 96, 128, 136, 192, 240, 272, 384, 544)),
            *(rng.choice((7, 14, 20, 28, 40, 56, 80, 112)),) * 2,
        )
        self.value = w.input("input", *self.shape)
        rng.randrange(1 << 31)  # the seed of the weights when the stored campaigns were measured

    def apply(self, kind: str, shape: _Shape, *inputs: str, **attributes: Attribute) -> str:
        """Add an operator whose result becomes the chain's value."""
        self.value, self.shape = self.w.op(kind, *inputs, domain="", **attributes), shape
        return self.value


def _grouped_conv(c: _Chain) -> None:
    n, channels, h, w = c.shape
    divisors = [g for g in (2, 3, 4, 8, 16, 32) if channels % g == 0]
    group = c.rng.choice(divisors) if divisors else 1
    out = group * c.rng.choice((4, 8, 16, 34, 68, 136))
    k = c.rng.choice((1, 1, 3, 5))
    c.apply("Conv", (n, out, h, w), c.value, c.w.weight(out, channels // group, k, k), group=group, pads=(k // 2,) * 4)


def _dilated_conv(c: _Chain) -> None:
    n, channels, h, w = c.shape
    out, k, d = c.rng.choice((16, 20, 32, 64)), 3, c.rng.choice((1, 2, 3))
    weight = c.w.weight(out, channels, k, k)
    c.apply("Conv", (n, out, h, w), c.value, weight, dilations=(d, d), pads=(d,) * 4)


def _asymmetric_conv(c: _Chain) -> None:
    n, channels, h, w = c.shape
    out, k = c.rng.choice((16, 32, 64, 96)), c.rng.choice((3, 5, 7))
    kernel, pads = ((1, k), (0, k // 2, 0, k // 2)) if c.rng.random() < 0.5 else ((k, 1), (k // 2, 0, k // 2, 0))
    c.apply("Conv", (n, out, h, w), c.value, c.w.weight(out, channels, *kernel), pads=pads)


def _transposed_conv(c: _Chain) -> None:
    n, channels, h, w = c.shape
    out = c.rng.choice((8, 16, 32))
    c.apply(
        "ConvTranspose", (n, out, 2 * h, 2 * w), c.value, c.w.weight(channels, out, 2, 2), strides=(2, 2),
        kernel_shape=(2, 2),
    )  # fmt: skip


def _local_response(c: _Chain) -> None:
    c.apply("LRN", c.shape, c.value, size=c.rng.choice((3, 5)), alpha=1e-4, beta=0.75, bias=1.0)


def _transpose(c: _Chain) -> None:
    n, channels, h, w = c.shape
    c.apply("Transpose", (n, h, w, channels), c.value, perm=(0, 2, 3, 1))
    c.apply("Relu", c.shape, c.value)
    c.apply("Transpose", (n, channels, h, w), c.value, perm=(0, 3, 1, 2))


def _shuffle(c: _Chain) -> None:
    n, channels, h, w = c.shape
    group = next((g for g in (4, 3, 2) if channels % g == 0), 1)
    split = (n, group, channels // group, h, w)
    c.apply("Reshape", split, c.value, c.w.values(*split))
    c.apply("Transpose", (n, split[2], group, h, w), c.value, perm=(0, 2, 1, 3, 4))
    c.apply("Reshape", (n, channels, h, w), c.value, c.w.values(n, channels, h, w))


def _resize(c: _Chain) -> None:
    n, channels, h, w = c.shape
    scales = c.w.values(1.0, 1.0, 2.0, 2.0, dtype="float32")
    c.apply("Resize", (n, channels, 2 * h, 2 * w), c.value, "", scales, mode=c.rng.choice(("nearest", "linear")))


def _pad(c: _Chain) -> None:
    n, channels, h, w = c.shape
    c.apply("Pad", (n, channels, h + 2, w + 2), c.value, c.w.values(0, 0, 1, 1, 0, 0, 1, 1))


def _pool(c: _Chain) -> None:
    n, channels, h, w = c.shape
    kind = c.rng.choice(("MaxPool", "AveragePool"))
    if h < 8:
        c.apply(kind, c.shape, c.value, kernel_shape=(3, 3), pads=(1,) * 4)
    else:
        c.apply(kind, (n, channels, h // 2, w // 2), c.value, kernel_shape=(2, 2), strides=(2, 2))


def _gate(c: _Chain) -> None:
    n, channels, h, w = c.shape
    value = c.value
    c.apply("GlobalAveragePool", (n, channels, 1, 1), value)
    c.apply("Conv", (n, channels, 1, 1), c.value, c.w.weight(channels, channels, 1, 1))
    gate = c.apply(c.rng.choice(("Sigmoid", "HardSigmoid")), c.shape, c.value)
    c.apply("Mul", (n, channels, h, w), value, gate)


def _pointwise(c: _Chain) -> None:
    kinds = ("Sigmoid", "Tanh", "HardSwish", "LeakyRelu", "Elu", "Relu", "Abs", "Softplus", "Erf", "Exp", "Sqrt")
    kind = c.rng.choice(kinds)
    if kind in ("Sqrt", "Exp"):
        c.apply("Sigmoid", c.shape, c.value)
    c.apply(kind, c.shape, c.value)


def _binary(c: _Chain) -> None:
    value = c.value
    other = c.apply("Relu", c.shape, value)
    c.apply(c.rng.choice(("Add", "Mul", "Sub", "Max")), c.shape, value, other)


def _sum(c: _Chain) -> None:
    value = c.value
    first = c.apply("Sigmoid", c.shape, value)
    c.apply("Sum", c.shape, value, first, value)


def _affine(c: _Chain) -> None:
    channels = c.shape[1]
    c.apply("Mul", c.shape, c.value, c.w.weight(1, channels, 1, 1))
    c.apply("Add", c.shape, c.value, c.w.weight(1, channels, 1, 1))


def _concat(c: _Chain) -> None:
    n, channels, h, w = c.shape
    value = c.value
    other = c.apply("Sigmoid", c.shape, value)
    c.apply("Concat", (n, 2 * channels, h, w), value, other, axis=1)


def _slice(c: _Chain) -> None:
    n, channels, h, w = c.shape
    kept = max(1, channels // 2)
    ends, starts, axes = (c.w.values(value) for value in (kept, 0, 1))
    c.apply("Slice", (n, kept, h, w), c.value, starts, ends, axes)


def _instance_norm(c: _Chain) -> None:
    channels = c.shape[1]
    c.apply("InstanceNormalization", c.shape, c.value, c.w.weight(channels), c.w.weight(channels))


def _softmax(c: _Chain) -> None:
    c.apply("Softmax", c.shape, c.value, axis=c.rng.choice((1, 3)))


def _reduce(c: _Chain) -> None:
    value, shape = c.value, c.shape
    mean = c.apply("ReduceMean", (*shape[:2], 1, 1), value, axes=(2, 3))
    c.apply("Sub", shape, value, mean)


def _head(c: _Chain) -> None:
    """Flatten and large matrix products, as the heads of AlexNet and VGG."""
    n = c.batch
    width = math.prod(c.shape[1:])
    c.apply("Flatten", (n, width), c.value)
    for _ in range(c.rng.choice((1, 2, 3))):
        out = c.rng.choice((100, 500, 1000, 2048, 4096))
        if width * out > 1 << 25:
            break
        if c.rng.random() < 0.5:
            c.apply("Gemm", (n, out), c.value, c.w.weight(out, width), c.w.weight(out), transB=1)
        else:
            c.apply("MatMul", (n, out), c.value, c.w.weight(width, out))
        c.apply("Relu", c.shape, c.value)
        width = out
    c.apply("Softmax", c.shape, c.value)


_STEPS: tuple[Callable[[_Chain], None], ...] = (
    _grouped_conv, _grouped_conv, _dilated_conv, _dilated_conv, _asymmetric_conv, _transposed_conv, _local_response,
    _local_response, _transpose, _shuffle, _shuffle, _resize, _pad, _pool, _gate, _pointwise, _pointwise, _binary,
    _sum, _affine, _concat, _slice, _instance_norm, _softmax, _reduce,
)  # fmt: skip


def write(w: Writer, batch: int, *, seed: int) -> None:
    """Write a random chain of 8 to 20 steps with a head."""
    rng = random.Random(seed)  # noqa: S311 - a network, not a secret
    chain = _Chain(w, rng, batch)
    for _ in range(rng.randint(8, 20)):
        step = rng.choice(_STEPS)
        growing = step in (_resize, _transposed_conv, _concat)
        if growing and 4 * math.prod(chain.shape) > MAX_ELEMENTS:
            step = _pool
        step(chain)
    while math.prod(chain.shape[1:]) > 25088 and chain.shape[2] >= 8:
        _pool(chain)
    _head(chain)
    w.output(chain.value)
