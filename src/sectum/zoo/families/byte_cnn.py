"""Networks that read text byte by byte or word by word: convolutions along the text, and means of embeddings.

As in Zhang et al. 2015 (characters as one-hot vectors), Kim 2014 (several kernels over embeddings), and fastText
(Joulin et al. 2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from sectum.zoo.families.drawing import affordable, choose, log_uniform, precision
from sectum.zoo.families.family import ProgramFamily
from sectum.zoo.precision import Precision, linear
from sectum.zoo.program import Write, Writer
from sectum.zoo.variation import Uniform


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a convolutional network over text.

    Attributes:
        symbols: rows of the embedding, or the depth of the one-hot vectors.
        width: of an embedding; 0 for one-hot vectors.
        length: symbols of a text.
        channels: of each convolution.
        kernels: widths of the convolutions.
        side_by_side: whether all convolutions read the embedding, or each the one before.
        pool: width of the pool after each convolution in a row; 1 for none.
        hidden: features of the layer before the classes; 0 for none.
    """

    symbols: int
    width: int
    length: int
    channels: tuple[int, ...]
    kernels: tuple[int, ...]
    side_by_side: bool
    pool: int
    hidden: int
    classes: int

    @property
    def entering(self) -> int:
        """Channels of the embedded text."""
        return self.width or self.symbols

    @property
    def gflop(self) -> float:
        """Of the convolutions for one text, as if none were pooled."""
        before = (self.entering,) * len(self.channels) if self.side_by_side else (self.entering, *self.channels)
        terms = zip(before, self.channels, self.kernels, strict=False)
        return 2 * self.length * sum(a * b * k for a, b, k in terms) / 1e9


def write(w: Writer, batch: int, *, sizes: Sizes, precision: Precision) -> None:
    """Write a convolutional network over text."""
    ids = w.input("text", batch, sizes.length, dtype="int64")
    if sizes.width:
        x = w.op("Gather", w.weight(sizes.symbols, sizes.width, fan_in=1), ids, axis=0)
    else:
        x = w.op("OneHot", ids, w.values(sizes.symbols), w.values(0.0, 1.0, dtype="float32"), axis=-1)
    x = w.op("Transpose", x, perm=(0, 2, 1))
    entering, length = sizes.entering, sizes.length
    pooled = []
    last = len(sizes.channels) - 1
    for index, (channels, kernel) in enumerate(zip(sizes.channels, sizes.kernels, strict=True)):
        y = w.op(
            "Conv", x, w.weight(channels, entering, kernel, gain=math.sqrt(2)), w.vector(channels),
            kernel_shape=(kernel,), strides=(1,), pads=(kernel // 2, (kernel - 1) // 2), dilations=(1,), group=1,
        )  # fmt: skip
        y = w.op("Relu", y)
        if sizes.side_by_side or index == last:
            pooled.append(_greatest(w, y, sizes))
            continue
        x, entering = y, channels
        if sizes.pool > 1 and length >= 4 * sizes.pool:
            x = w.op("MaxPool", x, kernel_shape=(sizes.pool,), strides=(sizes.pool,))
            length //= sizes.pool
    x = w.op("Concat", *pooled, axis=1) if len(pooled) > 1 else pooled[0]
    _classify(w, x, sum(sizes.channels) if sizes.side_by_side else sizes.channels[-1], sizes, precision)


def _greatest(w: Writer, y: str, sizes: Sizes) -> str:
    """The greatest value of each channel, in one of two spellings."""
    if sizes.hidden % 16:
        return w.op("ReduceMax", y, axes=(2,), keepdims=0)
    return w.op("Squeeze", w.op("GlobalMaxPool", y), w.values(2))


def _classify(w: Writer, x: str, features: int, sizes: Sizes, precision: Precision) -> None:
    if sizes.hidden:
        x = w.op("Relu", linear(w, x, features, sizes.hidden, precision, gain=math.sqrt(2)))
        features = sizes.hidden
    w.output(w.op("Softmax", linear(w, x, features, sizes.classes, precision), axis=-1))


def write_mean(w: Writer, batch: int, *, sizes: Sizes, precision: Precision) -> None:
    """Write a network that takes the mean of the embeddings of words."""
    ids = w.input("text", batch, sizes.length, dtype="int64")
    x = w.op("Gather", w.weight(sizes.symbols, sizes.width, fan_in=1), ids, axis=0)
    x = w.op("ReduceMean", x, axes=(1,), keepdims=0)
    _classify(w, x, sizes.width, sizes, precision)


def draw(rng: Uniform) -> Write:
    """Draw one of the kinds, its sizes and its precision."""
    while True:
        kind = choose(rng, ("one-hot", "bytes", "words", "mean"))
        layers = 0 if kind == "mean" else log_uniform(rng, 1, 6)
        widest = log_uniform(rng, 32, 512, 8)
        sizes = Sizes(
            symbols=log_uniform(rng, 1000, 400_000) if kind in ("words", "mean") else choose(rng, (70, 128, 256, 260)),
            width=0 if kind == "one-hot" else log_uniform(rng, 8, 300),
            length=log_uniform(rng, 16, 4096 if kind in ("one-hot", "bytes") else 512),
            channels=tuple([widest] * layers),
            kernels=tuple([choose(rng, (3, 3, 4, 5, 7)) for _ in range(layers)]),
            side_by_side=choose(rng, (True, False)),
            pool=choose(rng, (1, 2, 3)),
            hidden=choose(rng, (0, 1)) * log_uniform(rng, 16, 1024, 8),
            classes=log_uniform(rng, 2, 1000),
        )
        if affordable(sizes.gflop, sizes.symbols * sizes.width):
            return partial(write_mean if kind == "mean" else write, sizes=sizes, precision=precision(rng))


_CHARACTERS = Sizes(70, 0, 1014, (256,) * 6, (7, 7, 3, 3, 3, 3), side_by_side=False, pool=3, hidden=1024, classes=4)
_SENTENCES = Sizes(30_000, 300, 64, (100,) * 3, (3, 4, 5), side_by_side=True, pool=1, hidden=0, classes=2)
_FASTTEXT = Sizes(100_000, 100, 64, (), (), side_by_side=True, pool=1, hidden=0, classes=176)

FAMILY = ProgramFamily(
    "byte_cnn",
    {
        "char_cnn": partial(write, sizes=_CHARACTERS, precision=Precision.FLOAT),
        "sentence_cnn": partial(write, sizes=_SENTENCES, precision=Precision.FLOAT),
        "fasttext": partial(write_mean, sizes=_FASTTEXT, precision=Precision.FLOAT),
    },
    draw,
)
