"""Networks that find things in images: YOLO, SSD on MobileNet as TensorFlow exports it, text detectors and readers."""

from __future__ import annotations

from functools import partial

from sectum.zoo.families.family import ProgramFamily
from sectum.zoo.feature_maps import Draws, Layers, draw
from sectum.zoo.precision import Precision
from sectum.zoo.program import Writer


def _width(channels: float, factor: float) -> int:
    return max(8, round(channels * factor / 8) * 8)


def _silu(n: Layers, x: str, out: int, kernel: int, stride: int = 1) -> str:
    return n.conv(x, out, kernel, stride, act="SiLU")


def _bottleneck(n: Layers, x: str, *, add: bool, first: int = 3) -> str:
    y = _silu(n, _silu(n, x, n.channels(x), first), n.channels(x), 3)
    return n.add(x, y) if add else y


def _c2f(n: Layers, x: str, out: int, repeats: int, *, add: bool) -> str:
    """A stage of YOLOv8: half of the channels goes through bottlenecks, all that they make is joined."""
    parts = list(n.split(_silu(n, x, out, 1), 2))
    for _ in range(repeats):
        parts.append(_bottleneck(n, parts[-1], add=add))
    return _silu(n, n.concat(*parts), out, 1)


def _c3(n: Layers, x: str, out: int, repeats: int, *, add: bool) -> str:
    """A stage of YOLOv5: bottlenecks on one half, the other one passes by."""
    y = _silu(n, x, out // 2, 1)
    for _ in range(repeats):
        y = _bottleneck(n, y, add=add, first=1)
    return _silu(n, n.concat(y, _silu(n, x, out // 2, 1)), out, 1)


def _sppf(n: Layers, x: str, out: int) -> str:
    parts = [_silu(n, x, n.channels(x) // 2, 1)]
    for _ in range(3):
        parts.append(n.pool(parts[-1], 5, 1, pad=2))
    return _silu(n, n.concat(*parts), out, 1)


def _pyramid(n: Layers, x: str, width: float, depth: float, most: int, *, old: bool) -> list[str]:
    """Backbone and neck of YOLO; returns maps of strides 8, 16 and 32."""
    stage = _c3 if old else _c2f
    c1, c2, c3, c4 = (_width(c, width) for c in (64, 128, 256, 512))
    c5 = _width(min(1024, most), width)
    one, two, three = (max(1, round(k * depth)) for k in ((3, 6, 9) if old else (3, 6, 3)))
    x = _silu(n, n.conv(x, c1, 6, 2, act="SiLU") if old else _silu(n, x, c1, 3, 2), c2, 3, 2)
    x = stage(n, x, c2, one, add=True)
    x = low = stage(n, _silu(n, x, c3, 3, 2), c3, two, add=True)
    x = middle = stage(n, _silu(n, x, c4, 3, 2), c4, three if old else two, add=True)
    x = stage(n, _silu(n, x, c5, 3, 2), c5, one, add=True)
    x = high = _sppf(n, x, c5)
    if old:
        x = high = _silu(n, x, c4, 1)
    x = stage(n, n.concat(n.resize(x, 2), middle), c4, one, add=False)
    if old:
        x = _silu(n, x, c3, 1)
    between = x
    p3 = stage(n, n.concat(n.resize(x, 2), low), c3, one, add=False)
    p4 = stage(n, n.concat(_silu(n, p3, c3, 3, 2), between), c4, one, add=False)
    p5 = stage(n, n.concat(_silu(n, p4, c4, 3, 2), high), c5, one, add=False)
    return [p3, p4, p5]


def _yolo8(n: Layers, x: str, width: float, depth: float, most: int, classes: int) -> None:
    maps = _pyramid(n, x, width, depth, most, old=False)
    first = n.channels(maps[0])
    inner, classified = max(16, first // 4, 64), max(first, min(classes, 100))
    heads, strides = [], []
    for level, x in enumerate(maps):
        box = n.conv(_silu(n, _silu(n, x, inner, 3), inner, 3), 64, 1)
        kind = n.conv(_silu(n, _silu(n, x, classified, 3), classified, 3), classes, 1)
        y = n.concat(box, kind)
        rows, columns = n.shapes[y][2:]
        strides.append((8 << level, rows, columns))
        heads.append(n.reshape(y, n.batch, 64 + classes, rows * columns))
    w, x = n.w, n.concat(*heads, axis=2)
    cells = n.shapes[x][2]
    sizes = w.values(64, classes)
    names = w.ops("Split", x, sizes, outputs=2, axis=1)
    n.shapes[names[0]], n.shapes[names[1]] = (n.batch, 64, cells), (n.batch, classes, cells)
    y = n.op(
        "Transpose",
        (n.batch, 16, 4, cells),
        n.op("Reshape", (n.batch, 4, 16, cells), names[0], w.values(n.batch, 4, 16, cells)),
        perm=(0, 2, 1, 3),
    )
    y = n.same("Softmax", y, axis=1)
    weight = w.values(*(float(i) for i in range(16)), dtype="float32", shape=(1, 16, 1, 1))
    y = n.op("Conv", (n.batch, 1, 4, cells), y, weight, kernel_shape=(1, 1), strides=(1, 1))
    y = n.op("Reshape", (n.batch, 4, cells), y, w.values(n.batch, 4, cells))
    anchors = [(c + 0.5, r + 0.5, float(s)) for s, rows, cols in strides for r in range(rows) for c in range(cols)]
    points = w.values(*(a[0] for a in anchors), *(a[1] for a in anchors), dtype="float32", shape=(1, 2, cells))
    low = n.op("Sub", (n.batch, 2, cells), points, n.slice(y, 1, 0, 2))
    high = n.op("Add", (n.batch, 2, cells), points, n.slice(y, 1, 2, 4))
    middle = n.op("Div", (n.batch, 2, cells), n.op("Add", (n.batch, 2, cells), low, high), w.scalar(2.0))
    box = n.op("Concat", (n.batch, 4, cells), middle, n.op("Sub", (n.batch, 2, cells), high, low), axis=1)
    scale = w.values(*(a[2] for a in anchors), dtype="float32", shape=(1, cells))
    box = n.op("Mul", (n.batch, 4, cells), box, scale)
    n.output(n.op("Concat", (n.batch, 4 + classes, cells), box, n.same("Sigmoid", names[1]), axis=1))


def _yolo5(n: Layers, x: str, width: float, depth: float, classes: int) -> None:
    w, rows_all = n.w, []
    for level, found in enumerate(_pyramid(n, x, width, depth, 1024, old=True)):
        y = n.conv(found, 3 * (classes + 5), 1)
        rows, columns = n.shapes[y][2:]
        y = n.op(
            "Reshape", (n.batch, 3, classes + 5, rows, columns), y, w.values(n.batch, 3, classes + 5, rows, columns)
        )
        y = n.same("Sigmoid", n.op("Transpose", (n.batch, 3, rows, columns, classes + 5), y, perm=(0, 1, 3, 4, 2)))
        stride = float(8 << level)
        shape = n.shapes[y]
        grid = w.vector(0, mean=columns / 2, spread=1.0, shape=(1, 3, rows, columns, 2))
        sizes = w.vector(0, mean=4 * stride, spread=1.0, shape=(1, 3, rows, columns, 2))
        place = n.op("Mul", (*shape[:-1], 2), n.slice(y, 4, 0, 2), w.scalar(2.0))
        place = n.op("Mul", (*shape[:-1], 2), n.op("Add", (*shape[:-1], 2), place, grid), w.scalar(stride))
        size = n.op("Mul", (*shape[:-1], 2), n.slice(y, 4, 2, 4), w.scalar(2.0))
        size = n.op("Mul", (*shape[:-1], 2), n.op("Pow", (*shape[:-1], 2), size, w.scalar(2.0)), sizes)
        y = n.op("Concat", shape, place, size, n.slice(y, 4, 4, classes + 5), axis=4)
        count = 3 * rows * columns
        rows_all.append(n.op("Reshape", (n.batch, count, classes + 5), y, w.values(n.batch, count, classes + 5)))
    n.output(n.concat(*rows_all, axis=1))


def yolov8(width: float, depth: float, most: int, resolution: int, w: Writer, batch: int) -> None:
    """Write YOLOv8 (Ultralytics 2023), with normalizations folded."""
    n = Layers(w, batch)
    _yolo8(n, n.input("images", batch, 3, resolution, resolution), width, depth, most, 80)


def yolov5(width: float, depth: float, resolution: int, w: Writer, batch: int) -> None:
    """Write YOLOv5 (Ultralytics 2020, release 6), with normalizations folded."""
    n = Layers(w, batch)
    _yolo5(n, n.input("images", batch, 3, resolution, resolution), width, depth, 80)


def _yolo(n: Layers, d: Draws, width: float) -> None:
    n.precision = d.precision(Precision.STATIC)
    n.quantize_all = n.static and d.chance(0.5)
    size, classes = 32 * d.size(4, 20), d.of(1, 2, 10, 20, 80)
    x = n.input("images", n.batch, 3, size, size)
    factor, depth = d.size(12, 50) / 100 * width, d.of(0.33, 0.33, 0.5, 0.67)
    if d.chance(0.5):
        _yolo8(n, x, factor, depth, 1024, classes)
    else:
        _yolo5(n, x, factor, depth, classes)


def _ssd(n: Layers, d: Draws, width: float) -> None:
    """MobileNet and boxes of several maps, with channels last and a Transpose around what needs them first."""
    n.precision = d.precision(Precision.STATIC)
    size, classes, raw = d.of(128, 160, 192, 224, 256, 300, 320), d.of(2, 21, 91), d.chance(0.3)
    x = n.input("image", n.batch, size, size, 3, dtype="uint8" if raw else "float32")
    if raw:
        x = n.same("Cast", x, to=1)
    if d.chance(0.6):
        x = n.op("Sub", n.shapes[x], n.op("Mul", n.shapes[x], x, n.w.scalar(0.0078125)), n.w.scalar(1.0))
    wrapped, residual = d.chance(0.5), d.chance(0.5)
    factor = d.of(0.25, 0.35, 0.5, 0.75, 1.0) * width
    if not wrapped:
        x = n.transpose(x, 0, 3, 1, 2)

    def conv(x: str, out: int, kernel: int, stride: int = 1, group: int = 1, act: str = "Relu6") -> str:
        if wrapped:
            x = n.transpose(x, 0, 3, 1, 2)
        if stride == 2:
            x = n.conv(n.pad(x, (0, 0, 0, 0, 0, 0, 1, 1)), out, kernel, 2, group=group, pad=False)
        else:
            x = n.conv(x, out, kernel, 1, group=group)
        if wrapped:
            x = n.transpose(x, 0, 2, 3, 1)
        return n.act(x, act)

    def channels(x: str) -> int:
        return n.shapes[x][3 if wrapped else 1]

    x = conv(x, _width(32, factor), 3, 2)
    maps = []
    for out, stride in ((16, 1), (24, 2), (24, 1), (32, 2), (32, 1), (64, 2), (64, 1), (96, 1), (160, 2), (160, 1)):
        before, c = x, _width(out, factor)
        if residual:
            inner = 6 * channels(x)
            x = conv(conv(conv(x, inner, 1), inner, 3, stride, inner), c, 1, act="")
            x = n.add(x, before) if n.shapes[x] == n.shapes[before] else x
        else:
            x = conv(conv(x, channels(x), 3, stride, channels(x)), 2 * c, 1)
        if out in (96, 160) and stride == 1:
            maps.append(x)
    for out in (512, 256):
        x = conv(conv(x, _width(out / 2, factor), 1), _width(out, factor), 3, 2)
        maps.append(x)
    boxes: list[str] = []
    scores: list[str] = []
    for x in maps:
        for parts, size_of in ((boxes, 4), (scores, classes)):
            y = conv(x, 6 * size_of, d.of(1, 3), act="")
            y = y if wrapped else n.transpose(y, 0, 2, 3, 1)
            cells = n.shapes[y][1] * n.shapes[y][2] * 6
            parts.append(n.reshape(y, n.batch, cells, size_of))
    n.output(n.concat(*boxes, axis=1))
    n.output(n.same(d.of("Sigmoid", "Softmax"), n.concat(*scores, axis=1)))


def _mobile(n: Layers, d: Draws, x: str, factor: float, strides: tuple[tuple[int, ...], ...]) -> list[str]:
    """Inverted residuals with squeezes and hard activations; returns the map of each stage."""
    x = n.conv(x, _width(16, factor), 3, strides[0], act="HardSwish")
    maps = []
    for stage, stride in enumerate(strides[1:]):
        out = _width((16, 24, 40, 96, 160)[stage], factor)
        for index in range(d.of(1, 2)):
            before, inner = x, _width(n.channels(x) * d.of(2, 3, 4), 1)
            act = "Relu" if stage < 2 else "HardSwish"
            x = n.conv(x, inner, 1, act=act)
            x = n.conv(x, inner, d.of(3, 5), stride if index == 0 else 1, group=inner, act=act)
            if d.chance(0.5):
                x = n.excite(x, _width(inner / 4, 1), "HardSigmoid")
            x = n.conv(x, out, 1)
            x = n.add(x, before) if n.shapes[x] == n.shapes[before] else x
        maps.append(x)
    return maps


def _text_detector(n: Layers, d: Draws, width: float) -> None:
    """Where text is, by a threshold for each pixel: a pyramid, joined at a quarter of the resolution, then enlarged."""
    n.precision = d.precision(Precision.STATIC)
    height, columns = 32 * d.size(5, 30), 32 * d.size(5, 30)
    x = n.input("x", n.batch, 3, height, columns)
    maps = _mobile(n, d, x, d.of(0.35, 0.5, 1.0) * width, ((2, 2), (1, 1), (2, 2), (2, 2), (2, 2), (2, 2)))
    inner = max(8, round(d.of(96, 96, 256) * width / 8) * 8)
    sides = [n.conv(y, inner, 1, bias=d.chance(0.5)) for y in maps[1:]]
    for level in reversed(range(len(sides) - 1)):
        sides[level] = n.add(sides[level], n.resize(sides[level + 1], 2))
    joined = []
    for level, y in enumerate(sides):
        y = n.conv(y, inner // 4, 3)
        joined.append(n.resize(y, 2**level) if level else y)
    x = n.concat(*reversed(joined))
    x = n.conv(x, inner // 4, 3, act="Relu")
    x = n.act(n.norm(n.transposed(x, inner // 4, 2, 2)), "Relu")
    n.output(n.same("Sigmoid", n.transposed(x, 1, 2, 2)))


def _text_reader(n: Layers, d: Draws, width: float) -> None:
    """Reads a line: a network that halves the height, attention or recurrent layers, a class for each column."""
    n.precision = d.precision(Precision.STATIC, Precision.DYNAMIC)
    height, columns = d.of(32, 48), 8 * d.size(8, 80)
    x = n.input("x", n.batch, 3, height, columns)
    factor = d.of(0.5, 0.5, 1.0) * width
    x = _mobile(n, d, x, factor, ((2, 2), (1, 1), (2, 1), (2, 1), (2, 1), (2, 2)))[-1]
    x = n.conv(x, _width(320, factor), 1, act="HardSwish")
    batch, channels, rows, steps = n.shapes[x]
    x = n.op("AveragePool", (batch, channels, 1, steps), x, kernel_shape=(rows, 1), strides=(1, 1))
    n.precision = Precision.DYNAMIC if n.precision is not Precision.FLOAT else Precision.FLOAT
    n.quantize_all = False
    x = n.transpose(n.squeeze(x, 2), 0, 2, 1)
    if d.chance(0.6):
        x = _bidirectional(n, n.transpose(x, 1, 0, 2), _width(96, factor))
        x = n.transpose(x, 1, 0, 2)
    else:
        x = n.dense(x, _width(120, factor))
    classes = d.of(97, 1000, 6625, 6625)
    n.output(n.same("Softmax", n.dense(x, classes), axis=2))


def _bidirectional(n: Layers, x: str, hidden: int) -> str:
    steps, batch, features = n.shapes[x]
    w = n.w
    n.operations += 2 * steps * batch * 2 * 4 * hidden * (features + hidden)
    weights = [w.weight(2, 4 * hidden, size, fan_in=size) for size in (features, hidden)]
    start = w.vector(0, spread=0.0, shape=(2, batch, hidden))
    made = w.ops("LSTM", x, *weights, w.vector(0, shape=(2, 8 * hidden)), "", start, start, outputs=3,
                 direction="bidirectional", hidden_size=hidden)  # fmt: skip
    n.shapes[made[0]] = (steps, 2, batch, hidden)
    return n.reshape(n.transpose(made[0], 0, 2, 1, 3), steps, batch, 2 * hidden)


def _random(n: Layers, d: Draws, width: float) -> None:
    d.of(_yolo, _yolo, _ssd, _ssd, _text_detector, _text_reader)(n, d, width)


FAMILY = ProgramFamily(
    "detector",
    {
        "yolov8n": partial(yolov8, 0.25, 0.33, 1024, 640),
        "yolov8s": partial(yolov8, 0.5, 0.33, 1024, 640),
        "yolov5n": partial(yolov5, 0.25, 0.33, 640),
        "yolov5s": partial(yolov5, 0.5, 0.33, 640),
    },
    partial(draw, _random),
)
