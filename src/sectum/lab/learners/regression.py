"""Fits that make relative errors small, since ten milliseconds are much or little depending on the network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def proportional(columns: Floats, target: Floats) -> Floats:
    """Coefficients, none below zero, that make the squared relative errors of ``columns @ c`` smallest.

    Args:
        columns: shape ``(rows, k)``.
        target: positive, shape ``(rows,)``.

    Returns:
        Shape ``(k,)``; zeros where there are no rows.
    """
    kept = np.flatnonzero(np.any(columns != 0, axis=0))
    scaled = columns / target[:, None]
    while kept.size:
        scale = np.sqrt(np.mean(np.square(scaled[:, kept]), axis=0))
        found = np.linalg.lstsq(scaled[:, kept] / scale, np.ones(len(target)), rcond=None)[0] / scale
        if np.all(found >= 0):
            coefficients = np.zeros(columns.shape[1])
            coefficients[kept] = found
            return coefficients
        # A cost cannot be negative: the worst offender is taken out, and the others share its part.
        kept = np.delete(kept, np.argmin(found * scale))
    return np.zeros(columns.shape[1])


def factor(predicted: Floats, measured: Floats) -> float:
    """The constant that makes the mean absolute relative error of ``constant * predicted`` smallest; 1 for no rows.

    That is the median of measured over predicted, weighted by predicted over measured.
    """
    usable = predicted > 0
    if not usable.any():
        return 1.0
    ratio = measured[usable] / predicted[usable]
    return weighted_median(ratio, 1 / ratio)


def weighted_median(values: Floats, weights: Floats) -> float:
    """The value below which half of the weight lies."""
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)])
