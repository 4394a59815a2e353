"""Learns how far off predictions are, from networks that were held out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sectum.ort.operators import KINDS
from sectum.predict.spread import Spread, columns

Floats = NDArray[np.float64]

_FEWEST = 20


def learn_spread(networks: Sequence[tuple[Sequence[str], Floats]], errors: Sequence[float]) -> Spread:
    """Regress the sizes of logarithmic errors on the kinds of operators that networks spend their time in.

    Args:
        networks: of each, the kinds of its operators and their predicted native times in milliseconds.
        errors: logarithm of measured over predicted latency of each.

    A kind that too few networks have gets the largest of all.
    """
    from scipy.optimize import nnls

    table = np.stack([columns(kinds, times_ms) for kinds, times_ms in networks])
    found, _ = nnls(table, np.abs(np.asarray(errors)))
    seen = (table[:, : len(KINDS)] > 0.02).sum(axis=0) >= _FEWEST
    largest = max(found[: len(KINDS)][seen].max(initial=0.0), float(np.mean(np.abs(errors))))
    of_kinds = np.where(seen, found[: len(KINDS)], largest)
    return Spread(dict(zip(KINDS, of_kinds.tolist(), strict=True)), float(found[-1]))
