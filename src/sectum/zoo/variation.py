"""What may differ between members of a family: channel counts, kernel sizes, expansions.

A family's builder asks a :class:`Variation` for each number that may vary. :class:`Scaled` answers with the
published number times a width; :class:`Drawn` draws from the family's :class:`Grid`, so that one builder
makes the published network and its random relatives alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

Option = TypeVar("Option")


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round to the nearest multiple of ``divisor`` that is not over 10 % below: the MobileNet rule."""
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


class Uniform(Protocol):
    """The one method of a source of randomness that is used: a float in [0, 1)."""

    def random(self) -> float:
        """Draw uniformly from [0, 1)."""
        ...


class Variation(Protocol):
    """Answers a family's builder."""

    def channels(self, published: int, divisor: int = 1) -> int:
        """Channels of a layer, a multiple of ``divisor``."""
        ...

    def kernel(self, published: int) -> int:
        """Width of a square kernel, odd."""
        ...

    def expand(self, published: float) -> float:
        """Expansion of a block's inner channels."""
        ...


@dataclass(frozen=True, slots=True)
class Scaled:
    """The published network, its channels times ``width``, rounded by the MobileNet rule."""

    width: float = 1.0

    def channels(self, published: int, divisor: int = 1) -> int:
        """Scale the published number."""
        if self.width == 1.0:
            return published
        return make_divisible(published * self.width, math.lcm(8, divisor))

    def kernel(self, published: int) -> int:
        """Keep the published number."""
        return published

    def expand(self, published: float) -> float:
        """Keep the published number."""
        return published


def steps(first: float, last: float, step: float = 0.1) -> tuple[float, ...]:
    """Multipliers from ``first`` to ``last`` inclusive."""
    return tuple(round(first + i * step, 3) for i in range(round((last - first) / step) + 1))


@dataclass(frozen=True, slots=True)
class Grid:
    """What a family draws from. Empty ``expands`` keep the published expansions.

    With ``expand_factors`` the values multiply the published expansion, else they replace it.
    """

    multipliers: tuple[float, ...] = steps(0.2, 1.8)
    kernels: tuple[int, ...] = (1, 3, 5, 7)
    expands: tuple[float, ...] = ()
    expand_factors: bool = False


@dataclass(frozen=True, slots=True)
class Drawn:
    """Independent uniform draws, in the order in which the builder asks."""

    rng: Uniform
    grid: Grid

    def choose(self, options: Sequence[Option]) -> Option:
        """One of the options."""
        return options[int(self.rng.random() * len(options))]

    def channels(self, published: int, divisor: int = 1) -> int:
        """Multiply by a drawn multiplier and round down to the divisor, which is the least."""
        scaled = int(published * self.choose(self.grid.multipliers))
        return max(divisor, scaled // divisor * divisor)

    def kernel(self, published: int) -> int:
        """One of the grid's sizes."""
        return self.choose(self.grid.kernels) if self.grid.kernels else published

    def expand(self, published: float) -> float:
        """One of the grid's expansions."""
        if not self.grid.expands:
            return published
        drawn = self.choose(self.grid.expands)
        return published * drawn if self.grid.expand_factors else drawn
