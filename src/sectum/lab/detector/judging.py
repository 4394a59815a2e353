"""How right a detector is about rows that were measured, and whether its probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sectum.lab.dataset.dataset import BOUNDARY

BINS = 15


@dataclass(frozen=True)
class Judged:
    """What was said of measured rows, one network in one size of EPC each, and what is true of them.

    Attributes:
        probabilities: of being over-committed, shape ``(rows,)``.
        over_committed: measured, shape ``(rows,)``.
        occupations: measured working set over EPC, shape ``(rows,)``.
        working_set_errors: log of estimated over measured working set, shape ``(networks,)``.
        in_interval: whether the measured working set is in the estimate's 90 % interval, shape ``(networks,)``.
    """

    probabilities: NDArray[np.float64]
    over_committed: NDArray[np.bool_]
    occupations: NDArray[np.float64]
    working_set_errors: NDArray[np.float64]
    in_interval: NDArray[np.bool_]

    def boundary(self) -> Judged:
        """The rows in which working set and EPC are of about one size."""
        low, high = BOUNDARY
        near = (self.occupations >= low) & (self.occupations <= high)
        return Judged(
            self.probabilities[near],
            self.over_committed[near],
            self.occupations[near],
            self.working_set_errors,
            self.in_interval,
        )

    def figures(self) -> dict[str, float]:
        """Counts and figures by name; shares are of 1."""
        said, true = self.probabilities > 0.5, self.over_committed
        hits = float(np.sum(said & true))
        precision = hits / max(1.0, float(np.sum(said)))
        recall = hits / max(1.0, float(np.sum(true)))
        error = np.abs(np.expm1(self.working_set_errors))
        return {
            "rows": float(len(true)),
            "over_committed": float(np.sum(true)),
            "accuracy": float(np.mean(said == true)),
            "precision": precision,
            "recall": recall,
            "f1": 2 * precision * recall / max(precision + recall, 1e-12),
            "ece": expected_calibration_error(self.probabilities, true),
            "brier": float(np.mean((self.probabilities - true) ** 2)),
            "networks": float(len(error)),
            "working_set_median_error": float(np.median(error)),
            "working_set_mean_error": float(np.mean(error)),
            "working_set_error_of_90_percent": float(np.quantile(error, 0.9)),
            "working_sets_in_90_percent_interval": float(np.mean(self.in_interval)),
        }


def gather(several: Iterable[Judged]) -> Judged:
    """The rows of several splits."""
    parts: Sequence[Judged] = list(several)
    return Judged(
        np.concatenate([one.probabilities for one in parts]),
        np.concatenate([one.over_committed for one in parts]),
        np.concatenate([one.occupations for one in parts]),
        np.concatenate([one.working_set_errors for one in parts]),
        np.concatenate([one.in_interval for one in parts]),
    )


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows of about one probability.

    Attributes:
        said: their mean probability.
        happened: share of them that is over-committed.
        rows: how many.
    """

    said: float
    happened: float
    rows: int


def reliability(probabilities: ArrayLike, happened: ArrayLike, bins: int = BINS) -> list[Bin]:
    """Rows by equal steps of probability; empty bins are left out.

    Args:
        probabilities: from 0 to 1, shape ``(rows,)``.
        happened: what they are of, shape ``(rows,)``.
        bins: steps from 0 to 1.
    """
    said, true = np.asarray(probabilities, np.float64), np.asarray(happened, np.float64)
    number = np.minimum((said * bins).astype(np.int64), bins - 1)
    filled = [(number == one) for one in range(bins) if np.any(number == one)]
    return [Bin(float(said[rows].mean()), float(true[rows].mean()), int(rows.sum())) for rows in filled]


def expected_calibration_error(probabilities: ArrayLike, happened: ArrayLike, bins: int = BINS) -> float:
    """Mean distance of what was said and what happened, over bins weighted by their rows (Guo et al., 2017).

    Few rows in a bin make it too large even of perfect probabilities.
    """
    found = reliability(probabilities, happened, bins)
    rows = sum(one.rows for one in found)
    return sum(one.rows * abs(one.said - one.happened) for one in found) / rows if rows else 0.0
