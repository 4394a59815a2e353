"""What every part of a network would cost an enclave, estimated without laying out its memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sectum.enclave.runners.relay import Pace
from sectum.plan.assignment import ChainCosts
from sectum.plan.layout import RUNTIME_BYTES
from sectum.plan.links import LinkCosts
from sectum.plan.opening import OpeningCosts
from sectum.plan.units import Unit
from sectum.units import MIB, PAGE_BYTES

BUFFER_SHARES = (4, 6, 8, 12, 16, 24, 32)
"""Sizes of buffers that are tried: the EPC over these."""
WAKING_MS = 0.4
"""What an enclave takes longer because it waited: others have used the processor's caches meanwhile.

The median of 55 enclaves in splits of ResNet, VGG-16, Inception v3 and DenseNet, over the time that their operators
take in the whole network outside an enclave (AMD EPYC, Zen 4).
"""
_ARENA_SLACK = 1.03
_STILL_SEEN = 0.1
"""Of the time that a thread of its own opens, what the others wait for even where they compute longer."""


@dataclass(frozen=True, slots=True)
class EnclaveCosts:
    """What an enclave costs.

    Attributes:
        epc_bytes: of it.
        opening: of weights, and of stages.
        page_us: to load a page and evict another.
        ahead: of weights that a thread opens while others compute; None where none does.
        int8: whether streamed weights are stored as int8.
        link: between two enclaves.
        on_link: of sealing and opening what crosses.
    """

    epc_bytes: int
    opening: OpeningCosts
    page_us: float
    ahead: OpeningCosts | None
    int8: bool
    link: Pace
    on_link: LinkCosts


def estimate(
    parts: Sequence[Sequence[Unit]],
    live_bytes: NDArray[np.float64],
    crossing: NDArray[np.float64],
    costs: EnclaveCosts,
) -> ChainCosts:
    """What every run of parts costs.

    Args:
        parts: of the network, in order: n of them.
        live_bytes: activations and scratch memory at each operator.
        crossing: bytes that cross at each point, shape ``(n + 1,)``; 0 at the ends.
        costs: of an enclave.
    """
    peaks = np.array([max(live_bytes[part.operator] for part in group) for group in parts])
    largest = _most_between(
        np.array([max([part.weight_bytes for part in group if not part.must_stay], default=0) for group in parts])
    )
    weights = _between([sum(part.weight_bytes for part in group) for group in parts])
    must_stay = _between([sum(part.weight_bytes for part in group if part.must_stay) for group in parts])
    computing = _between([sum(part.compute_ms for part in group) for group in parts])
    free = costs.epc_bytes - RUNTIME_BYTES - _ARENA_SLACK * _most_between(peaks) - crossing[:, None]
    best = np.where(weights <= free, computing + costs.opening.stage_ms, np.inf)
    for share in BUFFER_SHARES:
        buffer = np.maximum(costs.epc_bytes / share, largest)
        opened = np.minimum(weights - must_stay, np.maximum(0.0, weights + buffer - free))
        paged = np.maximum(0.0, weights - opened + buffer - free)
        stages = 1 + np.ceil(opened / np.maximum(1.0, buffer))
        opening_ms = opened / MIB * costs.opening.least_ms_per_mib(int8=costs.int8)
        if costs.ahead is not None:
            ahead_ms = opened / MIB * costs.ahead.least_ms_per_mib(int8=costs.int8)
            opening_ms = np.minimum(opening_ms, np.maximum(_STILL_SEEN * ahead_ms, ahead_ms - computing))
        paging_ms = paged / PAGE_BYTES * costs.page_us / 1e3
        best = np.minimum(best, computing + stages * costs.opening.stage_ms + opening_ms + paging_ms)
    some = crossing > 0
    opening_ms, sealing_ms = (
        np.where(some, costs.on_link.message_ms + crossing / MIB * per_mib, 0.0)
        for per_mib in (costs.on_link.open_ms_per_mib, costs.on_link.seal_ms_per_mib)
    )
    busy = best + opening_ms[:, None] + sealing_ms[None, :] + WAKING_MS * (some[:, None] | some[None, :])
    busy[np.tril_indices(len(crossing))] = np.inf
    occupied = crossing * costs.link.transfer_ms(1.0)
    return ChainCosts(busy, np.where(some, costs.link.delay_ms + occupied, 0.0), occupied)


def _between(amounts: Sequence[float]) -> NDArray[np.float64]:
    """Sums from each point to each other one, shape ``(n + 1, n + 1)``."""
    sums: NDArray[np.float64] = np.concatenate([[0.0], np.cumsum(amounts)])
    found: NDArray[np.float64] = sums[None, :] - sums[:, None]
    return found


def _most_between(amounts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest from each point to each other one; 0 where there is nothing between."""
    n = len(amounts)
    found = np.zeros((n + 1, n + 1))
    for first in range(n):
        found[first, first + 1 :] = np.maximum.accumulate(amounts[first:])
    return found
