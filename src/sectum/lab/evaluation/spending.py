"""Which cases spend time in which types of operators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sectum.lab.evaluation.truth import Truth
from sectum.lab.learners.measured import MeasuredNetwork

SHARE = 0.1
"""A network counts for a type of operator from this share of its measured native time on."""
_FEWEST = 10
"""A type is told from so many networks on."""


def by_operator(networks: Sequence[MeasuredNetwork], cases: Truth) -> dict[str, NDArray[np.bool_]]:
    """By type of operator, the cases of the networks that spend `SHARE` of their time in it; shape ``(cases,)`` each.

    Networks whose operators were not timed count for no type.
    """
    of_type: dict[str, list[int]] = {}
    for index, network in enumerate(networks):
        if network.operator_ms is None or network.is_repeat:
            continue
        spent: Counter[str] = Counter()
        for name, time_ms in zip(network.features.types, network.operator_ms.tolist(), strict=True):
            spent[name.partition(" ")[0]] += time_ms
        for name, time_ms in spent.items():
            if time_ms >= SHARE * spent.total():
                of_type.setdefault(name, []).append(index)
    return {
        name: np.isin(cases.network, members) for name, members in sorted(of_type.items()) if len(members) >= _FEWEST
    }


def by_threads(networks: Sequence[MeasuredNetwork], cases: Truth) -> dict[str, NDArray[np.bool_]]:
    """By number of compute threads, its cases; shape ``(cases,)`` each."""
    threads = np.array([network.threads for network in networks])[cases.network]
    return {str(number): threads == number for number in np.unique(threads).tolist()}
