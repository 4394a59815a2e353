"""How the memory that an inference has touched grows from operator to operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sectum.units import PAGE_BYTES

if TYPE_CHECKING:
    from sectum.ort.page_trace import PageTrace


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of the distinct pages touched up to the end of one operator.

    Attributes:
        weight_bytes: those that hold weights.
        total_bytes: all of them: weights, inputs, activations and scratch memory. The last operator's is the working
            set, so it exceeds the EPC exactly where the network does not fit.
    """

    weight_bytes: int
    total_bytes: int


def footprints(trace: PageTrace, operators: int) -> tuple[Footprint, ...]:
    """Count the pages touched up to each of the ``operators``."""
    if not len(trace.touches):
        return (Footprint(0, 0),) * operators
    touched, first, n_touched = trace.touches.T
    end = first + n_touched
    # The pages between two neighbouring edges are touched by the same operators.
    edges = np.unique(np.concatenate([first, end]))
    n_pages = np.diff(edges)
    starts, stops = np.searchsorted(edges, first), np.searchsorted(edges, end)
    touched_by = np.full(n_pages.size, operators)
    for operator, start, stop in zip(touched[::-1], starts[::-1], stops[::-1], strict=True):
        touched_by[start:stop] = operator  # in reverse order, so that the earliest touch remains
    of_weights = np.where(edges[:-1] < trace.weight_pages, n_pages, 0)
    weights, everything = (
        np.bincount(touched_by, pages, operators + 1)[:operators].cumsum().astype(int) * PAGE_BYTES
        for pages in (of_weights, n_pages)
    )
    return tuple(Footprint(int(read), int(total)) for read, total in zip(weights, everything, strict=True))
