"""Overheads as HETEE's paper defines them, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sectum.hetee.data_plane.receipts import STEPS

_RESAMPLES = 2000
_OUTSIDE_PCT = 2.5  # on either side of an interval of 95 %


@dataclass(frozen=True)
class LatencyBreakdown:
    """The latency of one batch in the four steps of the paper's figure 8, which add up to the client's waiting time.

    Attributes:
        preprocess_ms: time in which the worker converted the batch to the model's input. Data that arrives meanwhile
            adds no time.
        compute_ms: time on the accelerator.
        encryption_ms: all sealing and opening in client and worker, but at most the rest of the latency, because some
            of it is hidden behind preprocessing.
        transfer_ms: everything else: sockets, the host, queues, waking up, signing and checking the receipt.
    """

    preprocess_ms: float
    compute_ms: float
    encryption_ms: float
    transfer_ms: float

    @classmethod
    def of(cls, total_ms: float, preprocess_ms: float, compute_ms: float, encryption_ms: float) -> LatencyBreakdown:
        """Split the client's waiting time. The part that belongs to no other step is transfer."""
        added_ms = total_ms - preprocess_ms - compute_ms
        shown_ms = min(encryption_ms, max(added_ms, 0.0))
        return cls(preprocess_ms, compute_ms, shown_ms, added_ms - shown_ms)

    @property
    def added_ms(self) -> float:
        """The time beyond preprocessing and computing."""
        return self.encryption_ms + self.transfer_ms

    @property
    def total_ms(self) -> float:
        """The client's waiting time."""
        return self.preprocess_ms + self.compute_ms + self.added_ms

    @property
    def latency_overhead_pct(self) -> float:
        """(encryption + transfer) / (preprocess + compute), in percent."""
        return 100 * self.added_ms / (self.preprocess_ms + self.compute_ms)

    def json(self) -> dict[str, float]:
        """The four steps in milliseconds."""
        return {step: round(getattr(self, f"{step}_ms"), 4) for step in STEPS}


def throughput_overhead_pct(baseline_per_s: float, service_per_s: float) -> float:
    """Baseline / service - 1, in percent; both in images or batches a second."""
    return 100 * (baseline_per_s / service_per_s - 1)


class BootstrapEstimate(NamedTuple):
    """A number with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2

    def json(self) -> list[float]:
        """Both ends of the interval."""
        return [round(self.low, 4), round(self.high, 4)]


def estimate(
    samples: Sequence[Sequence[float]],
    statistic: Callable[[NDArray[np.float64]], Any],
    *,
    paired: bool = True,
    seed: int = 0,
) -> BootstrapEstimate:
    """A statistic of medians, with its bootstrap interval (percentiles, 2000 resamples).

    Args:
        samples: rows of samples; with ``paired`` the samples of one column were taken together.
        statistic: maps an array [rows, n] of the rows' medians to n numbers.
        paired: whether to resample whole columns, or each row by itself.
        seed: seed of the resampling.
    """
    rows = [np.asarray(row, np.float64) for row in samples]
    draw = np.random.default_rng(seed)
    if paired:
        chosen = draw.integers(0, len(rows[0]), (_RESAMPLES, len(rows[0])))
        medians = np.array([np.median(row[chosen], axis=1) for row in rows])
    else:
        medians = np.array([np.median(row[draw.integers(0, len(row), (_RESAMPLES, len(row)))], axis=1) for row in rows])
    value = float(np.asarray(statistic(np.array([[np.median(row)] for row in rows]))).reshape(-1)[0])
    low, high = np.percentile(np.asarray(statistic(medians)), [_OUTSIDE_PCT, 100 - _OUTSIDE_PCT])
    return BootstrapEstimate(value, float(low), float(high))
