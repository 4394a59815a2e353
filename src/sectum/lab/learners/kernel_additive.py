"""nn-Meter's method (MobiSys 2021, doi 10.1145/3458864.3467882): a forest for each kernel, their latencies summed.

The kernels are the operators that the runtime executes after its fusions. It knows no memory: what it says of an
enclave is the native latency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sectum.lab.learners.learner import LatencyCase, LatencyEstimate
from sectum.lab.learners.measured import MeasuredNetwork
from sectum.lab.learners.native import Floats, OperatorRows
from sectum.lab.learners.operator_learning import merged
from sectum.lab.learners.regression import factor
from sectum.predict.features import FEATURES

TREES = 40
PARAMETERS = {
    "boosting": "rf", "objective": "regression", "num_leaves": 255, "min_data_in_leaf": 2, "bagging_fraction": 0.632,
    "bagging_freq": 1, "feature_fraction": 0.8, "seed": 0, "deterministic": True, "force_row_wise": True,
    "num_threads": 1, "verbose": -1,
}  # fmt: skip
_FEWEST_ROWS = 20
"""For a forest; a kernel seen less often takes its roofline times the usual factor."""
_LEAST_REFERENCES = 1e-6


class KernelAdditive:
    """Random forests on the kernels' hyper-parameters, one for each type of operator."""

    name = "kernel-additive"

    def fit(self, networks: Sequence[MeasuredNetwork]) -> _Forests:
        """Grow the forests from the networks whose operators were timed."""
        profiled = [network for network in networks if network.operator_ms is not None]
        if not profiled:
            return _Forests({}, 1.0)
        import lightgbm

        rows = OperatorRows.of(profiled)
        units = np.array([network.unit_ms for network in profiled])
        times = np.concatenate([np.asarray(network.operator_ms) for network in profiled]) / units[rows.network]
        times = np.maximum(times, _LEAST_REFERENCES)
        forests = {}
        kernels, which = np.unique(_kernels(rows), return_inverse=True)
        for number, kernel in enumerate(kernels.tolist()):
            mask = which == number
            if mask.sum() >= _FEWEST_ROWS:
                # Squared errors of large kernels would hide all others: as in relative errors, logarithms.
                data = lightgbm.Dataset(
                    *merged(rows.values[mask], np.log(times[mask]), np.ones(mask.sum())), params={"verbose": -1}
                )
                forests[kernel] = lightgbm.train(PARAMETERS, data, num_boost_round=TREES)
        return _Forests(forests, factor(rows.roofline, times))


@dataclass(frozen=True)
class _Forests:
    forests: Mapping[str, Any]
    unknown_over_roofline: float

    def predict(self, cases: Sequence[LatencyCase]) -> list[LatencyEstimate]:
        rows = OperatorRows.of([case.network for case in cases])
        times = self._normalized_times(rows)
        sums = np.bincount(rows.network, times, len(cases)).tolist()
        return [LatencyEstimate(time * case.network.unit_ms) for case, time in zip(cases, sums, strict=True)]

    def _normalized_times(self, rows: OperatorRows) -> Floats:
        times = rows.roofline * self.unknown_over_roofline
        kernels, which = np.unique(_kernels(rows), return_inverse=True)
        for number, kernel in enumerate(kernels.tolist()):
            if forest := self.forests.get(kernel):
                mask = which == number
                times[mask] = np.exp(forest.predict(rows.values[mask], num_threads=1))
        return times


def _kernels(rows: OperatorRows) -> Any:
    codes = rows.values[:, FEATURES.index("type")].astype(np.int64).astype(np.str_)
    return np.char.add(np.char.add(rows.groups, "/"), codes)
