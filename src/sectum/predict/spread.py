"""How far off predictions are, by what a network's time is made of: intervals are wider for kinds that are harder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.ort.operators import KINDS
from sectum.predict.features import OperatorFeatures

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
        threads: added with more than one thread.
    """

    kinds: Mapping[str, float]
    short: float
    threads: float

    def of(self, features: OperatorFeatures, times_ms: NDArray[np.float64]) -> float:
        """Expected error of one network.

        Args:
            features: of its operators.
            times_ms: native time of each.
        """
        row = columns(features, times_ms)
        return max(LEAST, float(row @ [*(self.kinds[kind] for kind in KINDS), self.short, self.threads]))

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
        spread = cls(kinds, float(stored["short"]), float(stored["threads"]))
        if not all(0 <= value < math.inf for value in (*kinds.values(), spread.short, spread.threads)):
            raise ValueError("an expected error is no positive number")
        return spread


def columns(features: OperatorFeatures, times_ms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of each kind in a network's time, how short it is, and 1 for several threads; ``(len(KINDS) + 2,)``."""
    total = max(float(times_ms.sum()), 1e-9)
    names = np.asarray(features.kinds)
    shares = [float(times_ms[names == kind].sum()) / total for kind in KINDS]
    return np.array([*shares, 1 / (1 + total / SHORT_MS), float(features.several_threads.any())])
