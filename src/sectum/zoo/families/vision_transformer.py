"""Vision transformers: ViT (Dosovitskiy et al. 2021) and DeiT (Touvron et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from sectum.zoo.families.drawing import affordable, choose, log_uniform
from sectum.zoo.families.family import ProgramFamily
from sectum.zoo.families.transformer import (
    Heads,
    Masks,
    Style,
    attention,
    dense,
    draw_style,
    feed_forward,
    layer_norm,
    reshape,
)
from sectum.zoo.program import Write, Writer
from sectum.zoo.variation import Uniform


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a vision transformer; ``patch`` and ``resolution`` in pixels."""

    layers: int
    hidden: int
    heads: int
    patch: int = 16
    resolution: int = 224
    expansion: int = 4
    classes: int = 1000

    @property
    def patches(self) -> int:
        """Patches of an image."""
        return (self.resolution // self.patch) ** 2

    @property
    def weights(self) -> int:
        """Elements of the products."""
        return self.layers * (4 + 2 * self.expansion) * self.hidden**2 + self.hidden * 3 * self.patch**2

    @property
    def gflop(self) -> float:
        """Of the products for one image."""
        return 2 * self.patches * (self.weights + 2 * self.layers * self.patches * self.hidden) / 1e9


def write(w: Writer, batch: int, *, sizes: Sizes, style: Style) -> None:
    """Write a vision transformer."""
    hidden, patch, count = sizes.hidden, sizes.patch, sizes.patches
    image = w.input("pixel_values", batch, 3, sizes.resolution, sizes.resolution)
    filters = w.weight(hidden, 3, patch, patch)
    x = w.op(
        "Conv", image, filters, w.vector(hidden),
        kernel_shape=(patch, patch), strides=(patch, patch), pads=(0,) * 4, dilations=(1, 1), group=1,
    )  # fmt: skip
    x = w.op("Transpose", reshape(w, x, (batch, hidden, count), style), perm=(0, 2, 1))
    first = w.op("Expand", w.weight(1, 1, hidden, fan_in=1), w.values(batch, 1, hidden))
    x = w.op("Concat", first, x, axis=1)
    x = w.op("Add", x, w.weight(1, count + 1, hidden, fan_in=1))
    rows = (batch, count + 1)
    size = Heads(*rows, hidden, sizes.heads)
    for _ in range(sizes.layers):
        x = w.op("Add", attention(w, layer_norm(w, x, hidden, style), size, style, Masks()), x)
        inner = sizes.expansion * hidden
        x = w.op("Add", feed_forward(w, layer_norm(w, x, hidden, style), rows, hidden, inner, style), x)
    x = w.op("Gather", layer_norm(w, x, hidden, style), w.scalar(0, "int64"), axis=1)
    w.output(dense(w, x, (batch,), hidden, sizes.classes, style))


def draw(rng: Uniform) -> Write:
    """Draw sizes and style."""
    while True:
        width = choose(rng, (32, 64, 64, 64))
        hidden = log_uniform(rng, 64, 768, width)
        patch = choose(rng, (8, 14, 16, 16, 16, 32))
        sizes = Sizes(
            layers=log_uniform(rng, 2, 12),
            hidden=hidden,
            heads=hidden // width,
            patch=patch,
            resolution=patch * log_uniform(rng, 4, 16),
            expansion=choose(rng, (2, 3, 4, 4)),
            classes=log_uniform(rng, 10, 1000),
        )
        if affordable(sizes.gflop, sizes.weights):
            return partial(write, sizes=sizes, style=draw_style(rng, masks=("none",)))


_STYLE = Style(scale="multiplied scores", mask="none", joint="stacked")

FAMILY = ProgramFamily(
    "vision_transformer",
    {
        "deit_tiny": partial(write, sizes=Sizes(12, 192, 3), style=_STYLE),
        "deit_small": partial(write, sizes=Sizes(12, 384, 6), style=_STYLE),
        "vit_base_16": partial(write, sizes=Sizes(12, 768, 12), style=Style(mask="none")),
    },
    draw,
)
