"""Figures of accuracy, each with an interval from resampling groups of near relatives.

Relatives are wrong together: resampling single rows would make the intervals too narrow. Every figure is a function of
sums over rows, so that a resample is one row of a matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 500
ECE_BINS = 10

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and the 95 % interval of its bootstrap; NaN where it is not defined, as the recall of no positives."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Judged:
    """Predictions beside what was measured; all arrays have shape ``(rows,)``.

    Attributes:
        measured_ms: latencies.
        predicted_ms: the same, predicted.
        low_ms: lower end of the interval; NaN where there is none.
        high_ms: its upper end.
        over_committed: whether the row pages.
        probability: predicted for that; NaN where there is none.
        group: near relatives have the same number.
    """

    measured_ms: Floats
    predicted_ms: Floats
    low_ms: Floats
    high_ms: Floats
    over_committed: NDArray[np.bool_]
    probability: Floats
    group: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.measured_ms)

    def chosen(self, mask: NDArray[np.bool_]) -> Judged:
        """The rows that the mask holds."""
        return Judged(*(getattr(self, name)[mask] for name in self.__dataclass_fields__))

    @property
    def errors(self) -> Floats:
        """Predicted over measured, less 1."""
        return self.predicted_ms / self.measured_ms - 1


def latency_figures(rows: Judged, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Figure]:
    """Shares within 5 and 10 %, mean absolute and root mean square relative error, coverage of the intervals.

    ``mape`` and ``rmspe`` are fractions. ``coverage`` is of the rows that have an interval.
    """
    error = np.abs(rows.errors)
    has_interval = ~np.isnan(rows.low_ms) & ~np.isnan(rows.high_ms)
    inside = has_interval & (rows.low_ms <= rows.measured_ms) & (rows.measured_ms <= rows.high_ms)
    columns = np.column_stack(
        [np.ones(len(rows)), error <= 0.05, error <= 0.10, error, np.square(error), inside, has_interval]
    )

    def combine(sums: Floats) -> Mapping[str, Floats]:
        n, within_5, within_10, absolute, squares, covered, intervals = np.moveaxis(sums, -1, 0)
        return {
            "within_5": _ratio(within_5, n),
            "within_10": _ratio(within_10, n),
            "mape": _ratio(absolute, n),
            "rmspe": np.sqrt(_ratio(squares, n)),
            "coverage": _ratio(covered, intervals),
        }

    return _with_intervals(columns, rows.group, combine, resamples, seed)


def detector_figures(rows: Judged, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Figure]:
    """Precision, recall and F1 of the verdict "pages" (probability 0.5 and more), and the calibration of probability.

    ``ece`` is the expected calibration error: over ten bins of probability, the mean distance between how often rows
    page and how often they were said to, weighted by rows. Rows without a probability are left out.
    """
    rows = rows.chosen(~np.isnan(rows.probability))
    said, so = rows.probability >= 0.5, rows.over_committed
    bins = np.minimum((rows.probability * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    excess = np.zeros((len(rows), ECE_BINS))
    excess[np.arange(len(rows)), bins] = rows.probability - so
    columns = np.column_stack([np.ones(len(rows)), said & so, said & ~so, ~said & so, excess])

    def combine(sums: Floats) -> Mapping[str, Floats]:
        n, hits, false_alarms, misses = np.moveaxis(sums[..., :4], -1, 0)
        return {
            "detector_precision": _ratio(hits, hits + false_alarms),
            "detector_recall": _ratio(hits, hits + misses),
            "detector_f1": _ratio(2 * hits, 2 * hits + false_alarms + misses),
            "detector_ece": _ratio(np.abs(sums[..., 4:]).sum(axis=-1), n),
        }

    return _with_intervals(columns, rows.group, combine, resamples, seed)


def _ratio(above: Floats, below: Floats) -> Floats:
    ratio: Floats = np.full(np.shape(below), math.nan)
    np.divide(above, below, out=ratio, where=np.asarray(below) > 0)
    return ratio


def _with_intervals(
    columns: NDArray[np.float64],
    group: NDArray[np.int64],
    combine: Callable[[Floats], Mapping[str, Floats]],
    resamples: int,
    seed: int,
) -> dict[str, Figure]:
    _, number = np.unique(group, return_inverse=True)
    n_groups = int(number.max()) + 1 if number.size else 0
    sums = np.zeros((n_groups, columns.shape[1]))
    np.add.at(sums, number, columns)
    values = combine(sums.sum(axis=0))
    if n_groups < 2:  # one group says nothing about how much groups differ
        return {name: Figure(float(value), math.nan, math.nan) for name, value in values.items()}
    resampled = combine(_draws(n_groups, resamples, seed) @ sums)
    return {name: Figure(float(value), *_middle(resampled[name])) for name, value in values.items()}


def _middle(values: Floats) -> tuple[float, float]:
    defined = values[~np.isnan(values)]
    if not defined.size:
        return math.nan, math.nan
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


@lru_cache(maxsize=64)
def _draws(n_groups: int, resamples: int, seed: int) -> Floats:
    """How often each group is drawn in each resample; shape ``(resamples, groups)``."""
    rng = np.random.default_rng([seed, n_groups])
    counts = [np.bincount(rng.integers(0, n_groups, n_groups), minlength=n_groups) for _ in range(resamples)]
    return np.array(counts, dtype=np.float64)
