"""Sizes of operators, drawn so that small ones are as likely as large ones."""

from __future__ import annotations

import random
from collections.abc import Callable

from sectum.zoo.program import Writer

MOST_ELEMENTS = 1 << 22
MOST_PRODUCTS = 1 << 28
"""Multiply-accumulates of one operator: some 10 ms."""
Draw = Callable[["Sizes", Writer], str]
Shape = tuple[int, ...]


class Sizes:
    """Draws sizes; small ones are as likely as large ones."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def size(self, least: int, most: int) -> int:
        """Log-uniform; half of those over 16 are multiples of 8."""
        if most <= least:
            return least
        drawn = round(least * float(most / least) ** self.rng.random())
        return int(drawn // 8 * 8) if drawn > 16 and self.rng.random() < 0.5 else drawn

    def one(self, *options: int) -> int:
        """One of several numbers."""
        return self.rng.choice(options)

    def chance(self, probability: float = 0.5) -> bool:
        """Whether something happens."""
        return self.rng.random() < probability

    def whole(self) -> str:
        """Type of 8-bit weights: signed ones are usual."""
        return "uint8" if self.chance(0.35) else "int8"

    def shape(self, rank: int, most: int = MOST_ELEMENTS, least_last: int = 1) -> Shape:
        """A tensor's shape; the first dimension is mostly 1."""
        total = self.size(32, most)
        first = 1 if self.chance(0.8) or rank == 1 else self.one(2, 4, 8)
        left, dims = max(1, total // first), []
        for place in range(rank - 1 if rank > 1 else 1):
            dims.append(self.size(1, max(1, left)) if place < rank - 2 else max(least_last, left))
            left = max(1, left // dims[-1])
        self.rng.shuffle(dims)
        dims[-1] = max(dims[-1], least_last)
        return (first, *dims) if rank > 1 else tuple(dims)

    def any_shape(self, most: int = MOST_ELEMENTS) -> Shape:
        """A shape of two to four dimensions."""
        return self.shape(self.one(2, 3, 3, 4, 4), most)


def an_input(w: Writer, *shape: int, dtype: str = "float32") -> str:
    """Declare an input of the operator's own.

    Every second one is written just before it is read, as in a network; the others were read an inference ago.
    """
    number = len(w.lowered.inputs)
    x = w.input(f"x{number}", *shape, dtype=dtype)
    return w.op("Neg", x) if number % 2 and dtype == "float32" else x


def fitting(s: Sizes, products: Callable[..., float], *ranges: tuple[int, int]) -> tuple[int, ...]:
    """Sizes whose products an operator can bear: drawn again until they fit."""
    while True:
        drawn = tuple(s.size(*span) for span in ranges)
        if products(*drawn) <= MOST_PRODUCTS:
            return drawn
