"""What the catalogue needs to know of a family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sectum.zoo.architecture import Builder
from sectum.zoo.program import Write
from sectum.zoo.variation import Drawn, Grid, Uniform, Variation

Assemble = Callable[[Builder, Variation, int], int]
"""Wires a network into a builder, for a number of classes; returns the output."""

Draw = Callable[[Builder, Drawn, int], int]
"""Wires a random relative into a builder; draws what the :class:`Variation` does not cover itself."""


def any_of(published: Mapping[str, Assemble]) -> Draw:
    """Wire a random relative of one of the published networks, all equally likely."""
    return lambda b, v, classes: published[v.choose(tuple(published))](b, v, classes)


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


@dataclass(frozen=True, slots=True)
class ProgramFamily:
    """Networks of one kind that are written operator by operator.

    Attributes:
        name: as in :func:`sectum.zoo.program_families`.
        published: networks by name.
        draw: draws a random relative. What it returns can be sent to another process: a partial of a function.
    """

    name: str
    published: Mapping[str, Write]
    draw: Callable[[Uniform], Write]
