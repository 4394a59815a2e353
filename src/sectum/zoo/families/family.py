"""What the catalogue needs to know of a family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sectum.zoo.architecture import Builder
from sectum.zoo.variation import Drawn, Grid, Variation

Assemble = Callable[[Builder, Variation, int], int]
"""Wires a network into a builder, for a number of classes; returns the output."""

Draw = Callable[[Builder, Drawn, int], int]
"""Wires a random relative into a builder; draws what the :class:`Variation` does not cover itself."""


@dataclass(frozen=True, slots=True)
class Family:
    """Networks of one kind.

    Attributes:
        name: as in :func:`sectum.zoo.families`.
        published: networks by name.
        resolutions: of the published networks where it is not 224 pixels.
        draw: wires a random relative; None where the family is not sampled.
        grid: what random relatives draw from.
        least_resolution: the smallest that every relative can take, in pixels.
        only_resolution: the one that random relatives have; 0 when it is drawn.
        classes: of the random relatives.
    """

    name: str
    published: Mapping[str, Assemble]
    draw: Draw | None = None
    grid: Grid = field(default_factory=Grid)
    resolutions: Mapping[str, int] | None = None
    least_resolution: int = 32
    only_resolution: int = 0
    classes: int = 1000
