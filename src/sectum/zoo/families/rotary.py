"""What Llama has in the place of positions and of LayerNormalization: rotations, and means of squares."""

from __future__ import annotations

from dataclasses import dataclass

from sectum.zoo.families.transformer import Heads
from sectum.zoo.program import Writer

_BASE = 10_000.0


@dataclass(frozen=True, slots=True)
class Rotary:
    """How an exporter writes both.

    Attributes:
        computed: cosines and sines are computed from the positions; otherwise they come from tables.
        reciprocal: how a row is divided by its root: times Reciprocal, times 1 over it by Div, or by Div ``direct``.
    """

    computed: bool = True
    reciprocal: str = "Div"


def rotary(w: Writer, places: str, size: Heads, positions: int, style: Rotary) -> tuple[str, str]:
    """Cosines and sines by which queries and keys of some positions are rotated."""
    half = size.width // 2
    if not style.computed:
        tables = (w.weight(positions, size.width, fan_in=2) for _ in range(2))
        cosine, sine = (w.op("Unsqueeze", w.op("Gather", t, places, axis=0), w.values(1)) for t in tables)
        return cosine, sine
    frequencies = w.values(
        *(_BASE ** (-i / half) for i in range(half)), dtype="float32", shape=(1, half, 1)
    )  # fmt: skip
    wide = w.op("Expand", frequencies, w.values(size.batch, half, 1))
    row = w.op("Cast", w.op("Unsqueeze", places, w.values(1)), to=1)
    angles = w.op("Transpose", w.op("MatMul", wide, row), perm=(0, 2, 1))
    angles = w.op("Concat", angles, angles, axis=-1)
    cosine, sine = (w.op("Unsqueeze", w.op(kind, angles), w.values(1)) for kind in ("Cos", "Sin"))
    return cosine, sine


def rotate(w: Writer, x: str, cosine: str, sine: str, width: int) -> str:
    """Rotate pairs of elements that lie half a head apart."""
    half, last = w.values(width // 2), w.values(-1)
    first = w.op("Slice", x, w.values(0), half, last)
    second = w.op("Slice", x, half, w.values(2**63 - 1), last)
    turned = w.op("Concat", w.op("Neg", second), first, axis=-1)
    return w.op("Add", w.op("Mul", x, cosine), w.op("Mul", turned, sine))


def rms_norm(w: Writer, x: str, hidden: int, style: Rotary) -> str:
    """Divide each row by the root of the mean of its squares."""
    mean = w.op("ReduceMean", w.op("Pow", x, w.scalar(2.0)), axes=(-1,))
    root = w.op("Sqrt", w.op("Add", mean, w.scalar(1e-6)))
    if style.reciprocal == "direct":
        y = w.op("Div", x, root)
    elif style.reciprocal == "Reciprocal":
        y = w.op("Mul", x, w.op("Reciprocal", root))
    else:
        y = w.op("Mul", x, w.op("Div", w.scalar(1.0), root))
    return w.op("Mul", w.vector(hidden, mean=1.0), y)
