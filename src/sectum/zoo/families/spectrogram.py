"""Networks on sound that begin with a spectrogram: keyword spotters, taggers, transcribers."""

from __future__ import annotations

import math
from functools import partial

from sectum.zoo.families.family import ProgramFamily
from sectum.zoo.feature_maps import Draws, Layers, draw
from sectum.zoo.precision import Precision


def _spectrum(n: Layers, d: Draws, x: str) -> str:
    """Power of the frequencies [batch, bins, frames] of samples [batch, samples]."""
    samples = n.shapes[x][1]
    window = min(d.size(200, 2048), samples // 2) // 2 * 2
    hop = min(d.size(80, 512), window)
    bins = window // 2 + 1
    two = n.w.scalar(2.0)
    if d.chance(0.5):
        half = window // 2
        x = n.squeeze(n.pad(n.unsqueeze(x, 1), (0, 0, half, 0, 0, half), d.of("reflect", "constant")), 1)
        samples += 2 * half
    frames = (samples - window) // hop + 1
    form = d.of("two", "two", "one", "operator", "frames")
    match form:
        case "operator":
            w, shape = n.w, (n.batch, frames, bins, 2)
            x = n.unsqueeze(x, 2) if d.chance(0.5) else n.reshape(x, n.batch, samples, 1)
            made = n.op("STFT", shape, x, w.scalar(hop, "int64"), w.vector(window, mean=0.5, spread=0.1),
                        w.scalar(window, "int64"), onesided=1)  # fmt: skip
            n.operations += n.batch * frames * int(5 * window * math.log2(window))
            made = n.same("Pow", made, two)
            power = n.op("ReduceSum", shape[:3], made, w.values(-1), keepdims=0)
            return n.transpose(power, 0, 2, 1)
        case "frames":
            w = n.w
            starts = w.values(*range(0, frames * hop, hop))
            index = w.op(
                "Add", w.op("Unsqueeze", starts, w.values(1)), w.op("Unsqueeze", w.values(*range(window)), w.values(0))
            )
            x = n.op("Gather", (n.batch, frames, window), x, index, axis=1)
            x = n.op("Mul", n.shapes[x], x, w.vector(window, mean=0.5, spread=0.1))
            parts = [n.dense(x, bins, bias=False) for _ in range(2)]
            return n.transpose(n.add(*(n.mul(part, part) for part in parts)), 0, 2, 1)
        case "one":
            x = n.conv(n.unsqueeze(x, 1), 2 * bins, window, hop, pad=False, bias=False)
            parts = [n.slice(x, 1, start, start + bins) for start in (0, bins)]
        case _:
            x = n.unsqueeze(x, 1)
            parts = [n.conv(x, bins, window, hop, pad=False, bias=False) for _ in range(2)]
    if d.chance(0.5):
        return n.add(*(n.same("Pow", part, two) for part in parts))
    return n.add(*(n.mul(part, part) for part in parts))


def _features(n: Layers, d: Draws, x: str) -> str:
    """Logarithms of mel bands, [batch, frames, bands]."""
    x = _spectrum(n, d, x)
    bins = n.shapes[x][1]
    bands = min(bins, d.of(32, 40, 40, 64, 80, 96, 128))
    if d.chance(0.7):
        x = n.transpose(x, 0, 2, 1)
        x = n.dense(x, bands, bias=False)
    else:
        batch, _, frames = n.shapes[x]
        n.operations += 2 * batch * bins * bands * frames
        x = n.op("MatMul", (batch, bands, frames), n.w.weight(bands, bins, fan_in=bins), x)
        x = n.transpose(x, 0, 2, 1)
    n.precision = Precision.FLOAT
    x = n.same("Abs", x)
    if d.chance(0.5):
        x = n.same("Log", n.same("Clip", x, n.w.scalar(1e-5)))
    else:
        x = n.same("Log", n.op("Add", n.shapes[x], x, n.w.scalar(1e-6)))
    if d.chance(0.4):
        x = n.op("Sub", n.shapes[x], x, n.op("ReduceMax", (n.batch, 1, 1), x, axes=(1, 2), keepdims=1))
    if d.chance(0.5):
        x = n.op("Mul", n.shapes[x], x, n.w.scalar(0.1))
    return x


def _random(n: Layers, d: Draws, width: float) -> None:
    later = d.precision(Precision.STATIC, Precision.STATIC, Precision.DYNAMIC)
    samples = d.size(8_000, 160_000, 160)
    x = _features(n, d, n.input("sound", n.batch, samples))
    n.precision, n.quantize_all = later, later is Precision.STATIC and d.chance(0.5)
    d.of(_image, _image, _line, _windows)(n, d, width, x)


def _block(n: Layers, x: str, out: int, kernel: int | tuple[int, ...], stride: int, act: str, *, norm: bool) -> str:
    if n.static or not norm:
        return n.conv(x, out, kernel, stride, act=act)
    return n.act(n.norm(n.conv(x, out, kernel, stride, bias=False)), act)


def _image(n: Layers, d: Draws, width: float, x: str) -> None:
    """A spectrogram as an image: residual or separable convolutions, then classes."""
    base, act, norm = max(4, int(d.size(8, 96, 4) * width)), d.of("Relu", "Relu", "SiLU", "Relu6"), d.chance(0.7)
    x = n.norm(n.unsqueeze(x, 1)) if d.chance(0.3) else n.reshape(x, n.batch, 1, *n.shapes[x][1:])
    if d.chance(0.5):
        x = n.pad(x, (0, 0, 1, 0, 0, 0, 1, 1))
    x = _block(n, x, base, (d.of(3, 5, 10, 20), d.of(3, 4, 8)), d.of(1, 2), act, norm=norm)
    separable = d.chance(0.5)
    for level in range(d.size(2, 9)):
        if min(n.shapes[x][2:]) < 4:
            break
        out, stride = min(384, base * 2 ** (level // 2)), d.of(1, 1, 2)
        if separable:
            x = n.conv(x, n.channels(x), 3, stride, group=n.channels(x), act=act)
            x = _block(n, x, out, 1, 1, act, norm=norm)
        elif stride == 1 and d.chance(0.5):
            y = _block(n, x, n.channels(x), 3, 1, act, norm=norm)
            x = n.act(n.add(n.conv(y, n.channels(x), 3), x), act)
        else:
            x = _block(n, x, out, 3, stride, act, norm=norm)
    batch, channels, *_ = n.shapes[x]
    if d.chance(0.7):
        x = n.op("Flatten", (batch, channels), n.mean(x), axis=1)
    else:
        x = n.op("ReduceMean", (batch, channels), x, axes=(2, 3), keepdims=0)
    n.output(n.same("Softmax", n.gemm(x, d.of(2, 12, 35, 50, 527)), axis=-1))


def _line(n: Layers, d: Draws, width: float, x: str) -> None:
    """A spectrogram as a signal with a channel for each band: temporal convolutions, classes for every frame or one."""
    base, act, norm = max(8, int(d.size(16, 384, 8) * width)), d.of("Relu", "Relu", "Relu6"), d.chance(0.7)
    x = n.transpose(x, 0, 2, 1)
    x = _block(n, x, base, d.of(3, 5, 11), 1, act, norm=norm)
    separable = d.chance(0.5)
    for _ in range(d.size(2, 12)):
        kernel = d.of(3, 9, 9, 11, 13, 17, 33, 39)
        before = x
        if separable:
            x = n.conv(x, base, kernel, group=base)
            x = _block(n, x, base, 1, 1, act, norm=norm)
        else:
            x = _block(n, x, base, min(kernel, 13), 1, act, norm=norm)
        x = n.add(x, before) if d.chance(0.5) else x
    if d.chance(0.5):
        n.output(n.same("LogSoftmax", n.transpose(n.conv(x, d.of(29, 64, 128), 1), 0, 2, 1), axis=-1))
        return
    x = n.squeeze(n.mean(x), 2)
    n.output(n.gemm(x, d.of(2, 12, 35)))


def _windows(n: Layers, d: Draws, width: float, x: str) -> None:
    """Contours over all frames, as transcribers of music have: convolutions, sigmoids, and Transposes of TensorFlow."""
    x = n.unsqueeze(x, 3) if d.chance(0.5) else n.reshape(x, *n.shapes[x], 1)
    base = max(4, int(d.size(8, 48, 4) * width))
    shifts = d.of(1, 1, 3, 5)
    if shifts > 1:
        size = n.shapes[x][2]
        parts = []
        for shift in range(shifts):
            part = n.slice(x, 2, shift, size) if shift else x
            parts.append(n.pad(part, (0, 0, 0, 0, 0, 0, shift, 0)) if shift else part)
        x = n.concat(*parts, axis=3)
    for layer in range(d.size(2, 6)):
        out = 1 if layer % 3 == 2 else base
        y = n.transpose(x, 0, 3, 1, 2)
        if d.chance(0.3):
            y = n.pad(y, (0, 0, 1, 1, 0, 0, 1, 1))
        y = n.conv(y, out, (d.of(3, 5, 7), d.of(3, 5, 7, 39)))
        if d.chance(0.5) and not n.static:
            y = n.norm(y)
        x = n.transpose(y, 0, 2, 3, 1)
        x = n.same("Sigmoid" if out == 1 else "Relu", x)
    batch, frames, bands, channels = n.shapes[x]
    n.output(n.reshape(x, batch, frames, bands * channels))


FAMILY = ProgramFamily("spectrogram", {}, partial(draw, _random))
