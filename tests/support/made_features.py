"""Features of operators of which only the kinds and the threads matter."""

from __future__ import annotations

import numpy as np

from sectum.ort.costs import OperatorCost
from sectum.ort.kernel_work import WIDTH
from sectum.predict.features import FEATURES, OperatorFeatures


def of_kinds(*kinds: str, threads: int = 1) -> OperatorFeatures:
    """An operator of each kind."""
    count = len(kinds)
    values = np.zeros((count, len(FEATURES)), dtype=np.float32)
    values[:, FEATURES.index("threads")] = threads
    costs = (OperatorCost(1, 1, 0, 1, True, (1, 1)),) * count
    return OperatorFeatures(kinds, values, np.ones(count), np.zeros((count, WIDTH)), ("Made",) * count, costs)
