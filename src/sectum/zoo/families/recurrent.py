"""Recurrent networks: on text, on frames of speech, and on one piece of sound with a state that the caller keeps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from sectum.zoo.families.family import ProgramFamily
from sectum.zoo.feature_maps import Draws, Layers, draw
from sectum.zoo.lowered import Attribute
from sectum.zoo.precision import Precision
from sectum.zoo.program import MICROSOFT, Writer

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@dataclass(frozen=True)
class _Recurrent:
    """Layers of one kind: what they are, and how their exporter writes them."""

    kind: str
    hidden: int
    both: bool
    stated: bool
    """Whether initial states are written, as PyTorch's exporter does."""

    @property
    def width(self) -> int:
        return self.hidden * (2 if self.both else 1)


def _layer(
    n: Layers, r: _Recurrent, x: str, states: tuple[str, ...] = (), *, last: bool = False
) -> tuple[str, tuple[str, ...]]:
    """One layer on [steps, batch, features]; returns its result and its last states.

    Where only the last state is wanted, the result is that of both directions, one after another.
    """
    w, hidden = n.w, r.hidden
    steps, batch, features = n.shapes[x]
    ways, gates = (2 if r.both else 1), _GATES[r.kind] * r.hidden
    count = 2 if r.kind == "LSTM" else 1
    n.operations += 2 * steps * batch * ways * gates * (features + hidden)
    if not states and r.stated:
        states = tuple(w.vector(0, spread=0.0, shape=(ways, batch, hidden)) for _ in range(count))
    attributes: dict[str, Attribute] = {"hidden_size": hidden}
    if r.both:
        attributes["direction"] = "bidirectional"
    bias = w.vector(0, shape=(ways, 2 * gates))
    outputs = 1 + count
    if n.precision is Precision.DYNAMIC and r.kind == "LSTM":
        weights = [w.weight(ways, size, gates, dtype="int8") for size in (features, hidden)]
        scales = [w.values(*[1 / 42 / size**0.5] * ways, dtype="float32", shape=(ways,)) for size in (features, hidden)]
        zero = w.values(*[0] * ways, dtype="int8", shape=(ways,))
        initial = [*states, *[""] * (2 - len(states))]
        made = w.ops(
            "DynamicQuantizeLSTM", x, *weights, bias, "", *initial, "", scales[0], zero, scales[1], zero,
            outputs=outputs, domain=MICROSOFT, **attributes,
        )  # fmt: skip
    else:
        weights = [n.stored(ways, gates, size, fan_in=size) for size in (features, hidden)]
        if r.kind == "GRU":
            attributes["linear_before_reset"] = 1
        inputs = [x, *weights, bias, *(["", *states] if states else [])]
        made = w.ops(r.kind, *inputs, outputs=outputs, domain="", **attributes)
    n.shapes[made[0]] = (steps, ways, batch, hidden)
    for name in made[1:]:
        n.shapes[name] = (ways, batch, hidden)
    if last:
        if not r.both:
            return n.squeeze(made[1], 0), made[1:]
        return n.reshape(n.transpose(made[1], 1, 0, 2), batch, 2 * hidden), made[1:]
    if not r.both:
        return n.squeeze(made[0], 1), made[1:]
    return n.reshape(n.transpose(made[0], 0, 2, 1, 3), steps, batch, 2 * hidden), made[1:]


def _drawn(n: Layers, d: Draws, width: float, least: int, most: int) -> _Recurrent:
    kind = d.of("LSTM", "LSTM", "LSTM", "GRU", "GRU", "RNN")
    n.precision = d.precision(Precision.DYNAMIC, Precision.DYNAMIC, Precision.DYNAMIC, Precision.HALF_WEIGHTS)
    hidden = max(8, round(d.size(least, most) * width / 8) * 8)
    return _Recurrent(kind, hidden, d.chance(0.5), d.chance(0.6))


def _text(n: Layers, d: Draws, width: float) -> None:
    """Embedding, recurrent layers, and a head on the last state, on the mean, or on every word."""
    r = _drawn(n, d, width, 16, 768)
    tokens, size, layers = d.size(4, 400), d.size(16, 400, 2), d.of(1, 1, 2, 2, 3)
    head = d.of("last", "last", "end", "mean", "tags", "words")
    x = n.input("ids", n.batch, tokens, dtype="int64")
    words = d.size(500, 60_000)
    time_first = d.chance(0.3)
    if time_first:
        x = n.transpose(x, 1, 0)
    x = n.op("Gather", (*n.shapes[x], size), n.w.weight(words, size, fan_in=1), x)
    if not time_first:
        x = n.transpose(x, 1, 0, 2)
    for layer in range(layers):
        x, _ = _layer(n, r, x, last=head == "last" and layer == layers - 1)
    classes = d.size(2, 128) if head != "words" else d.size(1000, 20_000)
    match head:
        case "end":
            x = n.op("Gather", (n.batch, r.width), x, n.w.scalar(-1, "int64"), axis=0)
        case "mean":
            x = n.op("ReduceMean", (n.batch, r.width), n.transpose(x, 1, 0, 2), axes=(1,), keepdims=0)
        case "tags" | "words":
            x = n.transpose(x, 1, 0, 2)
    if d.chance(0.4):
        x = n.act(n.dense(x, d.size(16, 256)), d.of("Relu", "Tanh"))
    x = n.gemm(x, classes) if len(n.shapes[x]) == 2 and d.chance(0.6) else n.dense(x, classes)
    n.output(n.same(d.of("Softmax", "LogSoftmax"), x, axis=-1) if d.chance(0.6) else x)


def _speech(n: Layers, d: Draws, width: float) -> None:
    """Frames of features, convolutions in front, recurrent layers, and a class for every frame."""
    r = _drawn(n, d, width, 32, 1024)
    frames, bands = d.size(10, 1000), d.of(13, 26, 39, 40, 64, 80, 128, 161)
    x = n.input("features", n.batch, frames, bands)
    front = d.of("none", "line", "plane")
    if front == "line":
        x = n.transpose(x, 0, 2, 1)
        for _ in range(d.of(1, 2)):
            x = n.conv(x, d.size(32, 512, 8), d.of(3, 5, 11), d.of(1, 2), act=d.of("Relu", "Tanh"))
        x = n.transpose(x, 2, 0, 1)
    elif front == "plane":
        x = n.unsqueeze(x, 1)
        for _ in range(d.of(1, 2)):
            channels = d.of(8, 16, 32, 32)
            x = n.norm(n.conv(x, channels, (d.of(3, 11), d.of(3, 21, 41)), (d.of(1, 2), 2), bias=d.chance(0.5)))
            x = n.same("Clip", x, n.w.scalar(0.0), n.w.scalar(20.0)) if d.chance(0.5) else n.act(x, "Relu")
        batch, channels, steps, rest = n.shapes[x]
        x = n.reshape(n.transpose(x, 2, 0, 1, 3), steps, batch, channels * rest)
    else:
        x = n.transpose(x, 1, 0, 2)
    for _ in range(d.of(1, 2, 3, 3, 5)):
        x, _ = _layer(n, r, x)
    if d.chance(0.5):
        x = n.transpose(x, 1, 0, 2)
    n.output(n.same(d.of("Softmax", "LogSoftmax"), n.dense(x, d.of(29, 32, 41, 64, 500, 1024)), axis=-1))


def _stateful(n: Layers, d: Draws, width: float) -> None:
    """One piece of sound with the state that the last piece left: detectors of speech, denoisers."""
    r = _Recurrent(d.of("LSTM", "LSTM", "GRU"), max(8, round(d.size(16, 512) * width / 8) * 8), False, True)
    n.precision = d.precision(Precision.DYNAMIC, Precision.HALF_WEIGHTS)
    samples = d.of(256, 480, 512, 960, 1536, 4096)
    layers, count = d.of(1, 1, 2, 3), 2 if r.kind == "LSTM" else 1
    x = n.unsqueeze(n.input("samples", n.batch, samples), 1)
    states = [n.input(f"state{i}", layers, n.batch, r.hidden) for i in range(count)]
    window = 2 * d.of(64, 128, 256) if samples >= 512 else 128
    bins = window // 2 + 1
    x = n.pad(x, (0, 0, window // 4, 0, 0, window // 4), "reflect")
    x = n.conv(x, 2 * bins, window, window // 2, pad=False, bias=False)
    real, imaginary = (n.slice(x, 1, start, start + bins) for start in (0, bins))
    two = n.w.scalar(2.0)
    x = n.same("Sqrt", n.add(n.same("Pow", real, two), n.same("Pow", imaginary, two)))
    for _ in range(d.of(1, 2, 4)):
        x = n.conv(x, d.size(16, 256, 8), 3, d.of(1, 1, 2), act="Relu")
    x = n.transpose(x, 2, 0, 1)
    kept: list[list[str]] = [[] for _ in range(count)]
    for layer in range(layers):
        mine = states if layers == 1 else [n.slice(state, 0, layer, layer + 1) for state in states]
        x, after = _layer(n, r, x, tuple(mine))
        for each, name in zip(kept, after, strict=True):
            each.append(name)
    x = n.conv(n.act(n.transpose(x, 1, 2, 0), "Relu"), d.of(1, 1, 2, bins), 1)
    x = n.same("Sigmoid", x)
    n.output(n.op("ReduceMean", n.shapes[x][:2], x, axes=(2,), keepdims=0) if d.chance(0.5) else x)
    for each in kept:
        n.output(each[0] if layers == 1 else n.concat(*each, axis=0))


def _random(n: Layers, d: Draws, width: float) -> None:
    d.of(_text, _text, _speech, _speech, _stateful)(n, d, width)


def crnn(w: Writer, batch: int) -> None:
    """Write CRNN (Shi et al. 2015): reads a line of text from a grey image of 32 by 100 pixels."""
    n = Layers(w, batch)
    x = n.input("image", batch, 1, 32, 100)
    x = n.pool(n.conv(x, 64, 3, act="Relu"), 2)
    x = n.pool(n.conv(x, 128, 3, act="Relu"), 2)
    x = n.act(n.norm(n.conv(x, 256, 3)), "Relu")
    for channels in (256, 512):
        if channels == 512:
            x = n.act(n.norm(n.conv(x, 512, 3)), "Relu")
        x = n.conv(x, channels, 3, act="Relu")
        rows, columns = n.shapes[x][2:]
        x = n.op(
            "MaxPool", (batch, channels, rows // 2, columns + 1), x, kernel_shape=(2, 2), pads=(0, 1, 0, 1),
            strides=(2, 1),
        )  # fmt: skip
    x = n.act(n.norm(n.conv(x, 512, 2, pad=False)), "Relu")
    x = n.transpose(n.squeeze(x, 2), 2, 0, 1)
    r = _Recurrent("LSTM", 256, both=True, stated=True)
    x = n.dense(_layer(n, r, x)[0], 256)
    n.output(n.dense(_layer(n, r, x)[0], 37))


FAMILY = ProgramFamily("recurrent", {"crnn": crnn}, partial(draw, _random))
