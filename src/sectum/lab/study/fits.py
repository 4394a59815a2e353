"""Numbers from many points: groups, quantiles, and what a page costs."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from sectum.extras import require
from sectum.lab.study.points import Point

Numbers = dict[str, Any]
"""An observation: numbers by name, with their units in the names; some are lists of such."""
CLOSE = 0.1
"""Relative error up to which a latency counts as predicted."""
_T = TypeVar("_T")


def page_costs(points: Sequence[Point]) -> tuple[float, float]:
    """Cost of a load and of a minor fault, in microseconds: least squares of relative errors; neither is negative.

    Where minor faults are too few to show their cost it is 0, and loads bear it.

    Raises:
        UsageError: SciPy is not installed.
    """
    optimize = require("scipy.optimize", "costs are fitted by SciPy", "train")
    counts = np.array([[point.loads, point.minor_faults] for point in points])
    extra_us = np.array([1e3 * point.extra_ms for point in points])
    (load_us, minor_us), _ = optimize.nnls(counts / np.maximum(extra_us, 1e-9)[:, None], np.ones(len(points)))
    return float(load_us), float(minor_us)


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


def errors(predicted_ms: Iterable[float], points: Iterable[Point]) -> Numbers:
    """How far predictions are off, relative to the measured latencies: the median, its sign, and the largest."""
    relative = [guess / point.latency_ms - 1 for guess, point in zip(predicted_ms, points, strict=True)]
    return {
        "median_error": statistics.median(map(abs, relative)),
        "bias": statistics.median(relative),
        "largest_error": max(map(abs, relative)),
        "within_10_percent": close_share(relative),
    }


def close_share(errors: Iterable[float]) -> float:
    """Share of some relative errors that are at most `CLOSE`."""
    return statistics.fmean(abs(error) <= CLOSE for error in errors)


def quantile(values: Sequence[float], q: float) -> float:
    """The value below which a share ``q`` of them lies."""
    return float(np.quantile(values, q))
