"""Which enclave runs which part of a network: dynamic programming over the points where it can be cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

LATENCY, THROUGHPUT = "latency", "throughput"
GOALS = (LATENCY, THROUGHPUT)


@dataclass(frozen=True)
class ChainCosts:
    """What parts of a network cost. A network of n units has the points 0 to n; a part lies between two of them.

    Attributes:
        part_ms: time that an enclave is busy with the part from one point up to another, with what it opens of the link
            before and seals for the next; infinite where it is not possible. Shape ``(n + 1, n + 1)``.
        link_ms: time of a message that crosses at each point. Shape ``(n + 1,)``.
        occupied_ms: part of it for which the link can carry no other message. Shape ``(n + 1,)``.
    """

    part_ms: NDArray[np.float64]
    link_ms: NDArray[np.float64]
    occupied_ms: NDArray[np.float64]


def assign(costs: ChainCosts, enclaves: int, goal: str) -> list[int]:
    """The best points to cut at, for one part in each of at most so many enclaves.

    Returns:
        the first unit of each part. For latency, the time of one request is the least; for throughput, the time between
        two results, and of those with the same time the latency.
    """
    if goal == LATENCY:
        return _shortest(costs, enclaves)
    interval_ms = _least_interval(costs, enclaves)
    within = interval_ms * (1 + 1e-9)
    allowed = ChainCosts(
        np.where(costs.part_ms <= within, costs.part_ms, np.inf),
        np.where(costs.occupied_ms <= within, costs.link_ms, np.inf),
        costs.occupied_ms,
    )
    return _shortest(allowed, enclaves)


def figures(costs: ChainCosts, bounds: Sequence[int], goal: str) -> tuple[float, float]:
    """What parts that begin at these points give: first what the goal makes small, then the other."""
    parts = [costs.part_ms[ends] for ends in pairwise([*bounds, len(costs.link_ms) - 1])]
    latency_ms = sum(parts) + sum(costs.link_ms[point] for point in bounds[1:])
    interval_ms = max([*parts, *(costs.occupied_ms[point] for point in bounds[1:])])
    both = (float(latency_ms), float(interval_ms))
    return both if goal == LATENCY else both[::-1]


def _shortest(costs: ChainCosts, enclaves: int) -> list[int]:
    """Least sum of parts and links."""
    points = len(costs.link_ms)
    to_here = np.full(points, np.inf)
    to_here[0] = 0.0
    best_ms, bounds = np.inf, [0]
    came: list[NDArray[np.int64]] = []
    for count in range(1, min(enclaves, points - 1) + 1):
        before = to_here + (costs.link_ms if count > 1 else 0.0)
        sums = before[:, None] + costs.part_ms
        came.append(sums.argmin(axis=0))
        to_here = sums.min(axis=0)
        if to_here[-1] < best_ms:
            best_ms, bounds = float(to_here[-1]), _traced(came)
    return bounds


def _least_interval(costs: ChainCosts, enclaves: int) -> float:
    """The least time between two results: that of the slowest part or link."""
    points = len(costs.link_ms)
    slowest = np.full(points, np.inf)
    slowest[0] = 0.0
    best = np.inf
    for count in range(1, min(enclaves, points - 1) + 1):
        before = np.maximum(slowest, costs.occupied_ms) if count > 1 else slowest
        slowest = np.maximum(before[:, None], costs.part_ms).min(axis=0)
        best = min(best, float(slowest[-1]))
    return best


def _traced(came: list[NDArray[np.int64]]) -> list[int]:
    at, bounds = len(came[-1]) - 1, []
    for firsts in reversed(came):
        at = int(firsts[at])
        bounds.append(at)
    return bounds[::-1]
