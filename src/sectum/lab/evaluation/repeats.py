"""Networks that were measured twice: how well labels agree with each other, and predictions with their mean."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.lab.evaluation.truth import REGIMES, Truth
from sectum.lab.learners.measured import MeasuredNetwork

SAME_EPC_PAGES = 16
"""Two sizes that differ by at most one batch of the pager count as the same."""
LATENCIES_MS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, float("inf"))
"""Ends of the ranges of measured latency that have figures of their own."""

Floats = NDArray[np.float64]
Figures = dict[str, Any]


def later_latencies(networks: Sequence[MeasuredNetwork], cases: Truth) -> Floats:
    """Latency of each case when it was measured again on the same machine, shape ``(cases,)``; NaN where it was not.

    Two EPC sizes are the same if they differ by at most `SAME_EPC_PAGES`. Of several repeats the first counts.
    """
    later_ms = np.full(len(cases), np.nan)
    lines: dict[int, list[int]] = {}
    for line, index in enumerate(cases.network.tolist()):
        lines.setdefault(index, []).append(line)
    first = {(networks[index].key, networks[index].machine): index for index in lines}
    for later in networks:
        index = first.get((later.key.partition("#")[0], later.machine)) if later.is_repeat else None
        if index is None:
            continue
        waiting = list(later.runs)
        for line in lines[index]:
            if not np.isnan(later_ms[line]):
                continue
            number = int(cases.run[line])
            if number < 0:
                later_ms[line] = later.native.latency_ms
                continue
            epc_pages = networks[index].runs[number].epc_pages or 0
            for run in waiting:
                if abs((run.epc_pages or 0) - epc_pages) <= SAME_EPC_PAGES:
                    later_ms[line] = run.latency_ms
                    waiting.remove(run)
                    break
    return later_ms


def label_noise(networks: Sequence[MeasuredNetwork], cases: Truth) -> Figures | None:
    """Agreement of latencies that were measured twice, in the enclave and by regime; None if there are none."""
    later_ms = later_latencies(networks, cases)
    twice = ~np.isnan(later_ms)
    if not twice.any():
        return None
    apart = np.abs(later_ms / cases.measured_ms - 1)

    def agreement(mask: NDArray[np.bool_]) -> Figures:
        return {"n": int(mask.sum())} | _shares(apart[mask])

    return agreement(twice & cases.in_enclave) | {
        "regimes": {name: agreement(twice & (cases.regime == number)) for number, name in enumerate(REGIMES)},
    }


def by_latency(networks: Sequence[MeasuredNetwork], cases: Truth, predicted_ms: Floats) -> list[Figures]:
    """By measured latency: errors of predictions, errors between labels, and errors of predictions to the mean label.

    A prediction can be nearer to a label than a second label is, and nearer still to the mean of both. Native cases
    count like those in enclaves. Where nothing was predicted there is NaN. The last range holds all latencies.
    """
    later_ms = later_latencies(networks, cases)
    error = np.abs(predicted_ms / cases.measured_ms - 1)
    apart = np.abs(later_ms / cases.measured_ms - 1)
    from_mean = np.abs(predicted_ms / np.sqrt(cases.measured_ms * later_ms) - 1)
    there = ~np.isnan(predicted_ms)
    ranges = []
    for low, high in (*pairwise(LATENCIES_MS), (LATENCIES_MS[0], LATENCIES_MS[-1])):
        mask = there & (cases.measured_ms >= low) & (cases.measured_ms < high)
        twice = mask & ~np.isnan(later_ms)
        ranges.append(
            {
                "from_ms": low,
                "below_ms": None if high == LATENCIES_MS[-1] else high,
                "n": int(mask.sum()),
                **_shares(error[mask]),
                "twice": {
                    "n": int(twice.sum()),
                    "labels": _shares(apart[twice]),
                    "first": _shares(error[twice]),
                    "mean": _shares(from_mean[twice]),
                },
            }
        )
    return ranges


def _shares(apart: Floats) -> Figures:
    if not len(apart):
        return {"within_5": None, "within_10": None, "mape": None}
    return {
        "within_5": round(float(np.mean(apart <= 0.05)), 4),
        "within_10": round(float(np.mean(apart <= 0.10)), 4),
        "mape": round(float(np.mean(apart)), 4),
    }
