"""Random sizes and choices for networks that are written operator by operator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from sectum.zoo.precision import Precision
from sectum.zoo.variation import Uniform

Option = TypeVar("Option")

FLOAT_SHARE = 0.55
MOST_GFLOP = 6.0
MOST_WEIGHT_BYTES = 256 << 20


def choose(rng: Uniform, options: Sequence[Option]) -> Option:
    """One of the options, all equally likely."""
    return options[int(rng.random() * len(options))]


def log_uniform(rng: Uniform, least: int, most: int, step: int = 1) -> int:
    """A multiple of ``step`` from ``least`` to ``most``; each doubling is equally likely."""
    drawn = least * math.exp(rng.random() * math.log(most / least))
    return min(max(round(drawn / step) * step, least), most)


def precision(rng: Uniform) -> Precision:
    """Floats for about half of the networks, the other precisions equally likely."""
    if rng.random() < FLOAT_SHARE:
        return Precision.FLOAT
    return choose(rng, [one for one in Precision if one is not Precision.FLOAT])


def affordable(gflop: float, weights: int) -> bool:
    """Whether a network with so many weights is small enough to be measured often."""
    return gflop <= MOST_GFLOP and 4 * weights <= MOST_WEIGHT_BYTES
