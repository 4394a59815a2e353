"""Text encoders like BERT (Devlin et al. 2019, Turc et al. 2019) and its distilled relatives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from sectum.zoo.families.drawing import affordable, choose, log_uniform
from sectum.zoo.families.family import ProgramFamily
from sectum.zoo.families.transformer import (
    Heads,
    Style,
    attention,
    dense,
    draw_style,
    feed_forward,
    layer_norm,
    padding_mask,
)
from sectum.zoo.program import Write, Writer
from sectum.zoo.variation import Uniform

HEADS = ("hidden", "pooler", "classes")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a text encoder.

    Attributes:
        types: of tokens, 2 in BERT; 0 for a network without them.
        head: what comes last: nothing, the pooler of the first token, or classes of it.
    """

    layers: int
    hidden: int
    heads: int
    inner: int
    tokens: int
    words: int = 30522
    positions: int = 512
    types: int = 2
    head: str = "pooler"

    @property
    def gflop(self) -> float:
        """Of the products for one sample."""
        per_token = 4 * self.hidden**2 + 2 * self.hidden * self.inner + 2 * self.hidden * self.tokens
        return 2 * self.layers * self.tokens * per_token / 1e9

    @property
    def weights(self) -> int:
        """Elements of tables and products."""
        tables = self.words + self.positions
        return self.hidden * tables + self.layers * (4 * self.hidden**2 + 2 * self.hidden * self.inner)


def write(w: Writer, batch: int, *, sizes: Sizes, style: Style) -> None:
    """Write an encoder."""
    hidden, tokens = sizes.hidden, sizes.tokens
    shape = (batch, tokens)
    ids = w.input("input_ids", *shape, dtype="int64")
    mask = w.input("attention_mask", *shape, dtype="int64") if style.mask != "none" else ""
    x = w.op("Gather", w.weight(sizes.words, hidden, fan_in=1), ids, axis=0)
    if sizes.types:
        kinds = w.input("token_type_ids", *shape, dtype="int64")
        x = w.op("Add", x, w.op("Gather", w.weight(sizes.types, hidden, fan_in=1), kinds, axis=0))
    places = w.values(*range(tokens), shape=(1, tokens))
    x = w.op("Add", x, w.op("Gather", w.weight(sizes.positions, hidden, fan_in=1), places, axis=0))
    x = layer_norm(w, x, hidden, style, 1e-12)
    masks = padding_mask(w, mask, style)
    size = Heads(batch, tokens, hidden, sizes.heads)
    for _ in range(sizes.layers):
        x = layer_norm(w, w.op("Add", attention(w, x, size, style, masks), x), hidden, style, 1e-12)
        x = layer_norm(w, w.op("Add", feed_forward(w, x, shape, hidden, sizes.inner, style), x), hidden, style, 1e-12)
    if sizes.head != "classes":
        w.output(x)
    if sizes.head != "hidden":
        first = w.op("Gather", x, w.scalar(0, "int64"), axis=1)
        pooled = w.op("Tanh", dense(w, first, (batch,), hidden, hidden, style))
        w.output(pooled if sizes.head == "pooler" else dense(w, pooled, (batch,), hidden, 2, style))


def draw(rng: Uniform) -> Write:
    """Draw sizes and style."""
    while True:
        width = choose(rng, (32, 64, 64, 64))
        hidden = log_uniform(rng, max(64, width), 1024, width)
        sizes = Sizes(
            layers=log_uniform(rng, 1, 12),
            hidden=hidden,
            heads=hidden // width,
            inner=hidden * choose(rng, (2, 3, 4, 4, 4)),
            tokens=log_uniform(rng, 8, 512),
            words=log_uniform(rng, 1000, 120_000),
            types=choose(rng, (0, 2)),
            head=choose(rng, HEADS),
        )
        if affordable(sizes.gflop, sizes.weights):
            return partial(write, sizes=sizes, style=draw_style(rng))


_STYLE = Style(shapes="followed")


def _bert(layers: int, hidden: int, heads: int) -> Write:
    return partial(write, sizes=Sizes(layers, hidden, heads, 4 * hidden, tokens=128), style=_STYLE)


FAMILY = ProgramFamily(
    "encoder",
    {
        "bert_tiny": _bert(2, 128, 2),
        "bert_mini": _bert(4, 256, 4),
        "bert_small": _bert(4, 512, 8),
        "bert_base": _bert(12, 768, 12),
        "minilm_l6": _bert(6, 384, 12),
        "distilbert": partial(
            write,
            sizes=Sizes(6, 768, 12, 3072, tokens=128, types=0, head="hidden"),
            style=Style(scale="query", mask="selected", shapes="followed"),
        ),
    },
    draw,
)
