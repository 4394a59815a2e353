"""Learns how far off predictions are, from networks that were held out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sectum.ort.operators import KINDS
from sectum.predict.features import OperatorFeatures
from sectum.predict.spread import Spread, columns

Floats = NDArray[np.float64]

_HAS, _FEWEST = 0.02, 20
"""A network has a kind from this share of its time on; a kind is known from so many networks on."""
_PRIOR = 20


def learn_spread(networks: Sequence[tuple[OperatorFeatures, Floats]], errors: Sequence[float]) -> Spread:
    """Regress the sizes of logarithmic errors on the kinds of operators that networks spend their time in.

    Args:
        networks: of each, the features of its operators and their predicted native times in milliseconds.
        errors: logarithm of measured over predicted latency of each.

    Each kind also counts as if `_PRIOR` networks of it alone had the mean error, and is no better than half of that:
    few networks are made of one kind. A kind that too few networks have gets the largest spread of all.
    """
    from scipy.optimize import nnls

    table = np.stack([columns(features, times_ms) for features, times_ms in networks])
    sizes = np.abs(np.asarray(errors))
    mean = float(sizes.mean())
    prior = np.sqrt(_PRIOR) * np.eye(len(KINDS), table.shape[1])
    found, _ = nnls(
        np.concatenate([table, prior]), np.concatenate([sizes, np.full(len(KINDS), np.sqrt(_PRIOR) * mean)])
    )
    of_kinds = np.maximum(found[: len(KINDS)], mean / 2)
    seen = (table[:, : len(KINDS)] > _HAS).sum(axis=0) >= _FEWEST
    of_kinds = np.where(seen, of_kinds, max(of_kinds[seen].max(initial=0.0), mean))
    short, threads = found[len(KINDS) :].tolist()
    return Spread(dict(zip(KINDS, of_kinds.tolist(), strict=True)), short, threads)
