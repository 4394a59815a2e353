"""How far off predictions are, by what a network's time is made of: intervals are wider for kinds that are harder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.ort.operators import KINDS

SHORT_MS = 1.0
LEAST = 0.01
"""No prediction is better than this."""

Width = tuple[float, float]


@dataclass(frozen=True)
class Spread:
    """Expected size of the logarithmic error of a latency.

    Attributes:
        kinds: by kind of operator, of a network that spends all its time there.
        short: added to that of an inference of next to no time; half of it at `SHORT_MS`.
    """

    kinds: Mapping[str, float]
    short: float

    def of(self, kinds: Sequence[str], times_ms: NDArray[np.float64]) -> float:
        """Expected error of one network.

        Args:
            kinds: of its operators.
            times_ms: native time of each.
        """
        row = columns(kinds, times_ms)
        return max(LEAST, float(row @ [*(self.kinds[kind] for kind in KINDS), self.short]))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Spread:
        """Read what `as_dict` gave.

        Raises:
            KeyError: a kind is missing.
            ValueError: an error is negative or no number.
        """
        kinds = {kind: float(stored["kinds"][kind]) for kind in KINDS}
        spread = cls(kinds, float(stored["short"]))
        if not all(0 <= value < math.inf for value in (*kinds.values(), spread.short)):
            raise ValueError("an expected error is no positive number")
        return spread


def columns(kinds: Sequence[str], times_ms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of each kind in a network's time, and how short it is; shape ``(len(KINDS) + 1,)``."""
    total = max(float(times_ms.sum()), 1e-9)
    names = np.asarray(kinds)
    shares = [float(times_ms[names == kind].sum()) / total for kind in KINDS]
    return np.array([*shares, 1 / (1 + total / SHORT_MS)])
