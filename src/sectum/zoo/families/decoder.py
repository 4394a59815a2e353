"""Language models that write text: GPT-2 (Radford et al. 2019) and Llama (Touvron et al. 2023) and relatives of both.

A network is either the prefill, which reads a whole prompt, or one step, which reads one token and the keys and values
of those before it. Both return the keys and values of all tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sectum.zoo.families.drawing import affordable, choose, log_uniform
from sectum.zoo.families.family import ProgramFamily
from sectum.zoo.families.rotary import Rotary, rms_norm, rotary, rotate
from sectum.zoo.families.transformer import (
    LOWEST,
    Heads,
    Masks,
    Style,
    attend,
    bare,
    dense,
    draw_style,
    feed_forward,
    heads_first,
    layer_norm,
    queries_keys_values,
    reshape,
)
from sectum.zoo.precision import Precision
from sectum.zoo.program import Write, Writer
from sectum.zoo.variation import Uniform

CAUSAL = ("added", "selected")
_BRANCH_GAIN = 0.5


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a decoder.

    Attributes:
        kept_heads: heads of keys and values; fewer than ``heads`` where several queries share them.
        tokens: that are read; 1 for a step.
        past: tokens whose keys and values are given; 0 for the prefill.
        tied: whether the last product reads the table of words.
        positions: rows of the table of positions of GPT-2.
    """

    layers: int
    hidden: int
    heads: int
    kept_heads: int
    inner: int
    tokens: int
    past: int
    words: int
    tied: bool = True
    positions: int = 1024

    @property
    def total(self) -> int:
        """Tokens that attention sees."""
        return self.past + self.tokens

    def head(self, batch: int) -> Heads:
        """Sizes of an attention."""
        return Heads(batch, self.tokens, self.hidden, self.heads)

    @property
    def gflop(self) -> float:
        """Of the products for one sample, with products of three matrices in the feed-forward part."""
        per_token = 4 * self.hidden**2 + 3 * self.hidden * self.inner + 2 * self.hidden * self.total
        return 2 * self.tokens * (self.layers * per_token + self.hidden * self.words) / 1e9

    @property
    def weights(self) -> int:
        """Elements of tables and products."""
        tables = (1 if self.tied else 2) * self.words
        return self.hidden * tables + self.layers * (4 * self.hidden**2 + 3 * self.hidden * self.inner)


def write_gpt2(w: Writer, batch: int, *, sizes: Sizes, style: Style, causal: str) -> None:
    """Write a decoder like GPT-2: positions from a table, LayerNormalization, GELU."""
    hidden, rows = sizes.hidden, (batch, sizes.tokens)
    ids = w.input("input_ids", *rows, dtype="int64")
    mask = w.input("attention_mask", batch, sizes.total, dtype="int64") if style.mask != "none" else ""
    places = w.input("position_ids", *rows, dtype="int64")
    table = w.weight(sizes.words, hidden, fan_in=hidden)
    positions = w.weight(sizes.positions, hidden, fan_in=hidden)
    x = w.op("Add", w.op("Gather", table, ids, axis=0), w.op("Gather", positions, places, axis=0))
    masks = _masks(w, mask, sizes, style, causal)
    caches = _Caches(w, batch, sizes)
    size = sizes.head(batch)
    for layer in range(sizes.layers):
        q, k, v = queries_keys_values(w, layer_norm(w, x, hidden, style), size, style)
        k, v = caches.extend(layer, k, v)
        y = attend(w, q, k, v, size, style, masks)
        x = w.op("Add", x, dense(w, y, rows, hidden, hidden, style, gain=_BRANCH_GAIN))
        x = w.op("Add", x, feed_forward(w, layer_norm(w, x, hidden, style), rows, hidden, sizes.inner, style))
    _logits(w, layer_norm(w, x, hidden, style), table, sizes, style)
    caches.declare()


def write_llama(w: Writer, batch: int, *, sizes: Sizes, style: Style, causal: str, rotated: Rotary) -> None:
    """Write a decoder like Llama: rotated positions, means of squares, grouped queries, gated products."""
    hidden, rows = sizes.hidden, (batch, sizes.tokens)
    size = sizes.head(batch)
    ids = w.input("input_ids", *rows, dtype="int64")
    mask = w.input("attention_mask", batch, sizes.total, dtype="int64") if style.mask != "none" else ""
    places = w.input("position_ids", *rows, dtype="int64")
    table = w.weight(sizes.words, hidden, fan_in=hidden)
    x = w.op("Gather", table, ids, axis=0)
    cosine, sine = rotary(w, places, size, sizes.total, rotated)
    masks = _masks(w, mask, sizes, style, causal)
    caches = _Caches(w, batch, sizes)
    for layer in range(sizes.layers):
        y = rms_norm(w, x, hidden, rotated)
        q, k, v = (
            heads_first(w, bare(w, y, hidden, heads * size.width, style), size, heads, style)
            for heads in (sizes.heads, sizes.kept_heads, sizes.kept_heads)
        )
        q, k = (rotate(w, item, cosine, sine, size.width) for item in (q, k))
        k, v = caches.extend(layer, k, v)
        k, v = (_shared(w, item, batch, sizes, style) for item in (k, v))
        y = attend(w, q, k, v, size, style, masks)
        x = w.op("Add", x, bare(w, y, hidden, hidden, style, gain=_BRANCH_GAIN))
        y = rms_norm(w, x, hidden, rotated)
        gate = bare(w, y, hidden, sizes.inner, style)
        gated = w.op("Mul", w.op("Mul", gate, w.op("Sigmoid", gate)), bare(w, y, hidden, sizes.inner, style))
        x = w.op("Add", x, bare(w, gated, sizes.inner, hidden, style, gain=_BRANCH_GAIN))
    _logits(w, rms_norm(w, x, hidden, rotated), table, sizes, style)
    caches.declare()


class _Caches:
    """Keys and values of all tokens, by layer."""

    def __init__(self, w: Writer, batch: int, sizes: Sizes) -> None:
        self.w = w
        self.made: list[str] = []
        self.given: list[tuple[str, str]] = []
        if sizes.past:
            shape = (batch, sizes.kept_heads, sizes.past, sizes.hidden // sizes.heads)
            for layer in range(sizes.layers):
                names = (f"past_key_values.{layer}.key", f"past_key_values.{layer}.value")
                self.given.append((w.input(names[0], *shape), w.input(names[1], *shape)))

    def extend(self, layer: int, k: str, v: str) -> tuple[str, str]:
        """Append keys and values to those that are given."""
        if self.given:
            k, v = (self.w.op("Concat", old, new, axis=2) for old, new in zip(self.given[layer], (k, v), strict=True))
        self.made += [k, v]
        return k, v

    def declare(self) -> None:
        """Declare all to be outputs."""
        for name in self.made:
            self.w.output(name)


def _shared(w: Writer, x: str, batch: int, sizes: Sizes, style: Style) -> str:
    """Repeat the heads of keys or values for the queries that share them."""
    groups = sizes.heads // sizes.kept_heads
    if groups == 1:
        return x
    width = sizes.hidden // sizes.heads
    wide = w.op("Unsqueeze", x, w.values(2))
    wide = w.op("Expand", wide, w.values(batch, sizes.kept_heads, groups, sizes.total, width))
    return reshape(w, wide, (batch, sizes.heads, sizes.total, width), style, kept=1)


def _masks(w: Writer, mask: str, sizes: Sizes, style: Style, causal: str) -> Masks:
    """What keeps a token from what comes after it, and from padding."""
    added = allowed = ""
    if sizes.tokens > 1:
        allowed = _before(w, sizes)
        if causal == "added":
            added = w.op("Where", allowed, w.scalar(0.0), w.scalar(LOWEST / 2))
            allowed = ""
    if not mask:
        return Masks(added=added, allowed=allowed)
    wide = w.op("Unsqueeze", w.op("Unsqueeze", mask, w.values(1)), w.values(2))
    if style.mask == "selected":
        padding = w.op("Where", w.op("Cast", wide, to=9), w.scalar(0.0), w.scalar(LOWEST / 4))
    else:
        padding = w.op("Mul", w.op("Sub", w.scalar(1.0), w.op("Cast", wide, to=1)), w.scalar(-10000.0))
    return Masks(added=w.op("Add", padding, added) if added else padding, allowed=allowed)


def _before(w: Writer, sizes: Sizes) -> str:
    """Which keys come no later than each query: a constant, which the runtime works out when it loads the network."""
    one = w.scalar(1, "int64")
    queries = w.op("Range", w.scalar(sizes.past, "int64"), w.scalar(sizes.total, "int64"), one)
    keys = w.op("Range", w.scalar(0, "int64"), w.scalar(sizes.total, "int64"), one)
    return w.op("LessOrEqual", keys, w.op("Unsqueeze", queries, w.values(1)))


def _logits(w: Writer, x: str, table: str, sizes: Sizes, style: Style) -> None:
    """Scores of all words for each token."""
    if sizes.tied and style.precision is Precision.FLOAT:
        w.output(w.op("MatMul", x, w.op("Transpose", table, perm=(1, 0))))
    else:
        w.output(bare(w, x, sizes.hidden, sizes.words, style))


def draw(rng: Uniform) -> Write:
    """Draw the kind, sizes and style."""
    while True:
        llama = rng.random() < 0.5
        step = rng.random() < 0.5
        width = choose(rng, (32, 64, 64, 64))
        heads = log_uniform(rng, 2, 16)
        kept = choose(rng, [count for count in range(1, heads) if heads % count == 0]) if llama else heads
        hidden = heads * width
        sizes = Sizes(
            layers=log_uniform(rng, 1, 16),
            hidden=hidden,
            heads=heads,
            kept_heads=kept,
            inner=log_uniform(rng, 2 * hidden, 4 * hidden, 32) if llama else 4 * hidden,
            tokens=1 if step else log_uniform(rng, 8, 256),
            past=log_uniform(rng, 16, 1024) if step else 0,
            words=log_uniform(rng, 1000, 64_000),
            tied=rng.random() < 0.5,
            positions=1280,
        )
        if affordable(sizes.gflop, sizes.weights):
            return _drawn(rng, sizes, llama=llama)


def _drawn(rng: Uniform, sizes: Sizes, *, llama: bool) -> Write:
    style, causal = draw_style(rng), choose(rng, CAUSAL)
    if not llama:
        return partial(write_gpt2, sizes=sizes, style=style, causal=causal)
    rotated = Rotary(computed=rng.random() < 0.5, reciprocal=choose(rng, ("Reciprocal", "Div", "direct")))
    return partial(write_llama, sizes=sizes, style=style, causal=causal, rotated=rotated)


def _gpt2(tokens: int, past: int) -> Write:
    return partial(
        write_gpt2,
        sizes=Sizes(12, 768, 12, 12, 3072, tokens, past, words=50257),
        style=Style(joint="split", gelu="tanh", product="gemm", shapes="followed"),
        causal="selected",
    )


def _llama(shape: Sequence[int], tokens: int, past: int, words: int, *, tied: bool) -> Write:
    layers, hidden, heads, kept, inner = shape
    return partial(
        write_llama,
        sizes=Sizes(layers, hidden, heads, kept, inner, tokens, past, words, tied=tied),
        style=Style(scale="multiplied scores", mask="selected", shapes="followed"),
        causal="added",
        rotated=Rotary(),
    )


_TINY_LLAMA = (22, 2048, 32, 4, 5632)
_SMOLLM = (30, 576, 9, 3, 1536)

FAMILY = ProgramFamily(
    "decoder",
    {
        "gpt2_prefill_64": _gpt2(64, 0),
        "gpt2_step_256": _gpt2(1, 256),
        "smollm_135m_prefill_64": _llama(_SMOLLM, 64, 0, 49152, tied=True),
        "smollm_135m_step_256": _llama(_SMOLLM, 1, 256, 49152, tied=True),
        "llama_1b_step_512": _llama(_TINY_LLAMA, 1, 512, 32000, tied=False),
    },
    draw,
)
