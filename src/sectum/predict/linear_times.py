"""Operator times as sums over the work of their kernels: a cost for each kind of work, found by linear regression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.ort.kernel_work import WIDTH
from sectum.predict.features import OperatorFeatures

ANY_TYPE = ""
LEAST_REFERENCES = 1e-5
"""Less than the start of any operator takes."""


@dataclass(frozen=True)
class LinearTimes:
    """Costs of work, in reference units.

    Attributes:
        costs: by group of operators and type, with its variant or without; `ANY_TYPE` for what was seldom seen; shape
            ``(WIDTH,)``. Operators of a group that is not there take their roofline.
    """

    costs: Mapping[str, Mapping[str, NDArray[np.float64]]]

    def times(self, features: OperatorFeatures) -> NDArray[np.float64]:
        """Time of each operator, in reference units; shape ``(operators,)``."""
        times = features.roofline.copy()
        alike: dict[tuple[str, str], list[int]] = {}
        for index, key in enumerate(zip(features.kinds, features.types, strict=True)):
            alike.setdefault(key, []).append(index)
        for (group, kind), chosen in alike.items():
            of_group = self.costs.get(group)
            if of_group is not None:
                cost = next(of_group[name] for name in (kind, kind.partition(" ")[0], ANY_TYPE) if name in of_group)
                # Row by row: a product with the whole matrix would round differently for each number of rows.
                products = features.work[chosen, None, :] @ cost[:, None]
                times[chosen] = np.maximum(LEAST_REFERENCES, products[:, 0, 0])
        return times

    def as_dict(self) -> dict[str, dict[str, list[float]]]:
        """Plain values, for JSON."""
        return {
            group: {kind: cost.tolist() for kind, cost in of_group.items()} for group, of_group in self.costs.items()
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Mapping[str, Any]]) -> LinearTimes:
        """Read what `as_dict` gave.

        Raises:
            ValueError: a cost has not the width of today's work, or is no positive number.
            KeyError: a group has no cost for types that were seen too seldom.
        """
        costs: dict[str, dict[str, NDArray[np.float64]]] = {}
        for group, of_group in stored.items():
            costs[group] = {str(kind): np.asarray(cost, dtype=np.float64) for kind, cost in of_group.items()}
            costs[group][ANY_TYPE]
            for cost in costs[group].values():
                if cost.shape != (WIDTH,) or not (np.isfinite(cost).all() and (cost >= 0).all()):
                    raise ValueError(f"the costs of work of '{group}' are not {WIDTH} numbers of 0 and more")
        return cls(costs)
