"""Networks on one-dimensional signals: U-Nets, and convolutional classifiers of ECG, EEG and sound."""

from __future__ import annotations

from functools import partial

from sectum.zoo.families.family import ProgramFamily
from sectum.zoo.feature_maps import Draws, Layers, draw
from sectum.zoo.precision import Precision
from sectum.zoo.program import Writer

_ACTIVATIONS = ("Relu", "Relu", "Elu", "PRelu", "LeakyRelu", "GLU", "SiLU", "Tanh")


def _start(n: Layers, d: Draws) -> tuple[str, int]:
    """Draw the style; returns the signal and its number of samples."""
    n.precision = d.precision(Precision.STATIC, Precision.STATIC, Precision.HALF_WEIGHTS)
    n.quantize_all = n.static and d.chance(0.5)
    length = d.size(500, 50_000, 64)
    if d.chance(0.3):
        return n.unsqueeze(n.input("signal", n.batch, length), 1), length
    channels = d.of(1, 1, 2, 3, 8, 12, 16, 22)
    if d.chance(0.3):
        return n.transpose(n.input("signal", n.batch, length, channels), 0, 2, 1), length
    return n.input("signal", n.batch, channels, length), length


def _block(n: Layers, x: str, out: int, kernel: int, act: str, norm: str, stride: int = 1, dilation: int = 1) -> str:
    doubled = 2 if act == "GLU" else 1
    bare = act if not norm or (n.static and act == "Relu") else ""
    x = n.conv(x, out * doubled, kernel, stride, dilation=dilation, act="" if act == "GLU" else bare)
    if norm and not n.static:
        x = n.norm(x, norm)
    return x if bare and act != "GLU" else n.act(x, act)


def _unet(n: Layers, d: Draws, width: float) -> None:
    x, length = _start(n, d)
    stride, act = d.of(2, 2, 2, 4), d.of(*_ACTIVATIONS)
    norm = d.of("", "BatchNormalization", "BatchNormalization", "InstanceNormalization")
    base, kernel = max(4, int(d.size(8, 64, 4) * width)), d.size(3, 31) // 2 * 2 + 1
    depth = max(1, min(d.of(2, 3, 4, 5), 6 // stride * 2))
    strided, transposed = d.chance(0.5), d.chance(0.5)
    whole = length // stride**depth * stride**depth
    if whole != length:
        x = n.slice(x, 2, 0, whole) if d.chance(0.5) else n.pad(x, (0, 0, 0, 0, 0, stride**depth - length + whole))
    skips = []
    for level in range(depth):
        out = min(512, base * 2**level)
        x = _block(n, x, out, kernel, act, norm)
        skips.append(x)
        x = _block(n, x, out, kernel, act, norm, stride) if strided else n.pool(x, stride)
    x = _block(n, x, min(512, base * 2**depth), kernel, act, norm)
    joined = d.chance(0.8)
    for level in reversed(range(depth)):
        out = n.channels(skips[level])
        x = n.transposed(x, out, d.of(stride, 2 * stride), stride) if transposed else n.resize(x, stride)
        if not joined and n.channels(x) != out:
            x = n.conv(x, out, 1)
        x = n.concat(x, skips[level]) if joined else n.add(x, skips[level])
        x = _block(n, x, out, kernel, act, norm)
    x = n.conv(x, d.of(1, 2, 3, 4, 8), 1)
    n.output(n.same(d.of("Sigmoid", "Tanh"), x) if d.chance(0.6) else n.transpose(x, 0, 2, 1))


def _classifier(n: Layers, d: Draws, width: float) -> None:
    x, length = _start(n, d)
    act = d.of("Relu", "Relu", "Relu", "Elu", "PRelu", "LeakyRelu", "SiLU")
    norm = d.of("", "BatchNormalization", "BatchNormalization")
    base, kernel = max(4, int(d.size(8, 128, 4) * width)), d.size(7, 400)
    x = _block(n, x, base, min(kernel, length // 8), act, norm, d.of(1, 2, 4, 8))
    residual, separable = d.chance(0.4), d.chance(0.3)
    for level in range(d.size(2, 10)):
        if n.shapes[x][2] < 16:
            break
        k = d.of(3, 5, 7, 9, 15, 16, 25, 31)
        if separable:
            x = n.conv(x, n.channels(x), k, group=n.channels(x), bias=d.chance(0.5))
            x = _block(n, x, min(512, base * 2 ** (level // 2)), 1, act, norm)
        elif residual:
            before = x
            x = _block(n, x, n.channels(x), k // 2 * 2 + 1, act, norm, dilation=d.of(1, 1, 2, 4, 8))
            x = n.add(n.conv(x, n.channels(x), 3), before)
            x = n.act(x, act)
        else:
            x = _block(n, x, min(512, base * 2 ** (level // 2)), k, act, norm, dilation=d.of(1, 1, 1, 2))
        if n.shapes[x][2] >= 32 and d.chance(0.7):
            x = n.pool(x, d.of(2, 2, 4), kind=d.of("MaxPool", "MaxPool", "AveragePool"))
    _head(n, d, x)


def _head(n: Layers, d: Draws, x: str) -> None:
    classes = d.of(2, 4, 5, 9, 26, 71, 360)
    batch, channels, length = n.shapes[x]
    if d.chance(0.6) or channels * length > 8192:
        x = n.mean(x)
        x = n.op("Flatten", (batch, channels), x, axis=1) if d.chance(0.5) else n.squeeze(x, 2)
    else:
        x = n.op("Flatten", (batch, channels * length), x, axis=1)
    if d.chance(0.5):
        x = n.act(n.gemm(x, d.size(32, 512)), "Relu")
    x = n.gemm(x, classes)
    n.output(n.same("Softmax", x, axis=-1) if d.chance(0.5) else x)


def _waveform(n: Layers, d: Draws, width: float) -> None:
    """Stacked dilated convolutions with gates and skips, as WaveNet and temporal convolutional networks have them."""
    x, _ = _start(n, d)
    base, kernel = max(4, int(d.size(8, 96, 4) * width)), d.of(2, 3, 3, 5, 7)
    causal, gated = d.chance(0.6), d.chance(0.5)
    x = n.conv(x, base, 1)
    total = ""
    for layer in range(d.size(4, 16)):
        dilation = 2 ** (layer % d.of(6, 8, 9))
        reach = (kernel - 1) * dilation
        if reach >= n.shapes[x][2]:
            break
        before = x
        front = reach if causal else reach // 2
        x = n.pad(x, (0, 0, front, 0, 0, reach - front))
        if gated:
            filtered = n.same("Tanh", n.conv(x, base, kernel, dilation=dilation, pad=False))
            gate = n.same("Sigmoid", n.conv(x, base, kernel, dilation=dilation, pad=False))
            x = n.mul(filtered, gate)
        else:
            x = n.conv(x, base, kernel, dilation=dilation, pad=False, act="Relu")
        total = n.conv(x, base, 1) if not total else n.add(total, n.conv(x, base, 1))
        x = n.add(n.conv(x, base, 1), before)
    n.output(n.conv(n.same("Relu", total or x), d.of(1, 4, 16), 1))


def _random(n: Layers, d: Draws, width: float) -> None:
    d.of(_unet, _unet, _classifier, _classifier, _waveform)(n, d, width)


def crepe(capacity: int, w: Writer, batch: int) -> None:
    """Write CREPE (Kim et al. 2018): pitch from 1,024 samples, by six long convolutions with pools."""
    n = Layers(w, batch)
    x = n.reshape(n.input("frames", batch, 1024), batch, 1, 1024, 1)
    for filters, kernel, stride in ((32, 512, 4), (4, 64, 1), (4, 64, 1), (4, 64, 1), (8, 64, 1), (16, 64, 1)):
        missing = (-(-n.shapes[x][2] // stride) - 1) * stride + kernel - n.shapes[x][2]
        x = n.pad(x, (0, 0, missing // 2, 0, 0, 0, missing - missing // 2, 0))
        x = n.norm(n.conv(x, filters * capacity, (kernel, 1), (stride, 1), pad=False, act="Relu"))
        batch_, channels, length, _ = n.shapes[x]
        x = n.op("MaxPool", (batch_, channels, length // 2, 1), x, kernel_shape=(2, 1), strides=(2, 1))
    x = n.transpose(x, 0, 2, 1, 3)
    x = n.op("Flatten", (batch, 64 * capacity), x, axis=1)
    n.output(n.same("Sigmoid", n.dense(x, 360)))


FAMILY = ProgramFamily(
    "signal_unet",
    {"crepe_tiny": partial(crepe, 4), "crepe_full": partial(crepe, 32)},
    partial(draw, _random),
)
