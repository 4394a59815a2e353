"""Numbers from many points: groups, quantiles, and what a page costs."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from sectum.lab.study.points import Point

Numbers = dict[str, Any]
"""An observation: numbers by name, with their units in the names; some are lists of such."""
CLOSE = 0.1
"""Relative error up to which a latency counts as explained."""
_T = TypeVar("_T")


def page_costs(points: Sequence[Point]) -> tuple[float, float]:
    """Cost of a load and of a minor fault, in microseconds, from least squares of relative errors; neither negative.

    Where minor faults are too few to tell their cost it is 0, and loads bear it.
    """
    counts = np.array([[point.loads, point.minor_faults] for point in points])
    extra_us = np.array([1e3 * point.extra_ms for point in points])
    relative = counts / np.maximum(extra_us, 1e-9)[:, None]
    (load_us, minor_us), *_ = np.linalg.lstsq(relative, np.ones(len(points)), rcond=None)
    if minor_us >= 0:
        return float(load_us), float(minor_us)
    return float(relative[:, 0].sum() / (relative[:, 0] @ relative[:, 0])), 0.0


def median_costs(points: Iterable[Point], key: Callable[[Point], float | str]) -> dict[str, float]:
    """Median cost of a load, in microseconds, of each group of points, in the order of the keys."""
    return {
        f"{name:g}" if isinstance(name, float) else str(name): statistics.median(point.load_us for point in group)
        for name, group in sorted(grouped(points, key).items())
    }


def grouped(values: Iterable[_T], key: Callable[[_T], Any]) -> dict[Any, list[_T]]:
    """Values by what the key gives."""
    groups: defaultdict[Any, list[_T]] = defaultdict(list)
    for value in values:
        groups[key(value)].append(value)
    return dict(groups)


def spread(values: Iterable[float]) -> float:
    """Largest over smallest."""
    found = list(values)
    return max(found) / min(found)


def close_share(errors: Iterable[float]) -> float:
    """How many of some relative errors are at most `CLOSE`, as a share."""
    return statistics.fmean(abs(error) <= CLOSE for error in errors)


def quantile(values: Sequence[float], q: float) -> float:
    """The value below which a share ``q`` of them lies."""
    return float(np.quantile(values, q))
