"""Fits that minimise relative errors: ten milliseconds are much for one network and little for another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def proportional(columns: Floats, target: Floats) -> Floats:
    """Coefficients, none below zero, that minimise the squared relative errors of ``columns @ c``.

    Args:
        columns: shape ``(rows, k)``.
        target: positive, shape ``(rows,)``.

    Returns:
        Shape ``(k,)``; zeros where there are no rows.
    """
    from scipy.optimize import nnls

    coefficients = np.zeros(columns.shape[1])
    used = np.any(columns != 0, axis=0)
    if used.any():
        scaled = columns[:, used] / target[:, None]
        scale = np.sqrt(np.mean(np.square(scaled), axis=0))
        coefficients[used] = nnls(scaled / scale, np.ones(len(target)))[0] / scale
    return coefficients


def factor(predicted: Floats, measured: Floats) -> float:
    """The constant that minimises the mean absolute relative error of ``constant * predicted``; 1 for no rows.

    That is the median of measured / predicted, weighted by predicted / measured.
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
