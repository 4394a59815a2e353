"""Native latency, learned operator by operator and summed; what several learners of one fold share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sectum.measure.reference import References
from sectum.predict.baselines.regression import weighted_median
from sectum.predict.features import OperatorFeatures
from sectum.predict.measured import MeasuredNetwork

Floats = NDArray[np.float64]
T = TypeVar("T")

TREES = 120
PARAMETERS = {
    "objective": "regression", "num_leaves": 31, "learning_rate": 0.12, "min_data_in_leaf": 8, "bagging_fraction": 0.7,
    "bagging_freq": 1, "feature_fraction": 0.6, "seed": 0, "deterministic": True, "force_row_wise": True,
    "num_threads": 1, "verbose": -1,
}  # fmt: skip
"""As the shipped operator models are trained, with fewer trees: an evaluation trains dozens of them."""
_LEAST_REFERENCES = 1e-6
_LEAST_SHARE = 1e-4


class Featured(Protocol):
    """A network as far as native latency depends on it, measured or not."""

    @property
    def features(self) -> OperatorFeatures: ...  # noqa: D102 - see MeasuredNetwork

    @property
    def structure(self) -> str: ...  # noqa: D102

    @property
    def batch(self) -> int: ...  # noqa: D102

    @property
    def threads(self) -> int: ...  # noqa: D102

    @property
    def machine(self) -> str: ...  # noqa: D102


def identity(network: Featured) -> Hashable:
    """What two networks share whose operators are the same on one machine."""
    return network.structure, network.batch, network.threads, network.machine


@dataclass(frozen=True)
class OperatorRows:
    """Operators of several networks, one row each.

    Attributes:
        values: features, float32, shape ``(rows, columns)``.
        groups: name of each row's group.
        roofline: first estimate, in reference units.
        network: index of the row's network.
    """

    values: NDArray[np.float32]
    groups: NDArray[np.str_]
    roofline: Floats
    network: NDArray[np.int64]

    @classmethod
    def of(cls, networks: Sequence[Featured]) -> OperatorRows:
        """Put the operators of networks, at least one, into one table."""
        features = [network.features for network in networks]
        return cls(
            np.concatenate([one.values for one in features]),
            np.array([group for one in features for group in one.groups], dtype=np.str_),
            np.concatenate([one.roofline for one in features]),
            np.repeat(np.arange(len(features)), [len(one.groups) for one in features]),
        )


def reference_ms(references: References) -> float:
    """The unit of everything that is learned: the machine's typical time of the matrix products."""
    return references.products_ms


class NativeModel:
    """One regressor for each group of operators, and the time that a whole inference takes beside its operators.

    Args:
        regressors: LightGBM models of log(time / roofline), by group.
        overhead: time of each operator between its profile and its share of an inference, in reference units.
    """

    def __init__(self, regressors: Mapping[str, Any], overhead: float) -> None:
        self._regressors = regressors
        self._overhead = overhead

    def references(self, networks: Sequence[Featured]) -> Floats:
        """Latency of each network outside enclaves, in reference units; shape ``(networks,)``.

        Operators of a group that was not among those learned from take their roofline.
        """
        different = {identity(network): network for network in networks}
        rows = OperatorRows.of(list(different.values()))
        times = rows.roofline * np.exp(self._correction(rows))
        times = np.maximum(times + self._overhead, times / 4)
        sums = dict(zip(different, np.bincount(rows.network, times, len(different)).tolist(), strict=True))
        return np.array([sums[identity(network)] for network in networks])

    def _correction(self, rows: OperatorRows) -> Floats:
        correction = np.zeros(len(rows.groups))
        for group, regressor in self._regressors.items():
            mask = rows.groups == group
            if mask.any():
                correction[mask] = regressor.predict(rows.values[mask], num_threads=1)
        return correction


class Shared:
    """What several learners of one fold need, trained once."""

    def __init__(self) -> None:
        self._which: tuple[str, ...] = ()
        self._trained: dict[str, Any] = {}

    def native(self, networks: Sequence[MeasuredNetwork]) -> NativeModel:
        """The native model learned from these networks."""
        return self.once("native", networks, fit)

    def once(
        self, what: str, networks: Sequence[MeasuredNetwork], train: Callable[[Sequence[MeasuredNetwork]], T]
    ) -> T:
        """What ``train`` makes of the networks; kept under the name ``what`` until other networks are given."""
        which = tuple(f"{network.machine} {network.key}" for network in networks)
        if which != self._which:
            self._which, self._trained = which, {}
        if what not in self._trained:
            self._trained[what] = train(networks)
        trained: T = self._trained[what]
        return trained


def fit(networks: Sequence[MeasuredNetwork]) -> NativeModel:
    """Learn from the networks whose operators were timed."""
    profiled = [network for network in networks if network.operator_ms is not None]
    if not profiled:
        return NativeModel({}, 0.0)
    import lightgbm

    rows = OperatorRows.of(profiled)
    units = np.array([reference_ms(network.typical) for network in profiled])
    times = np.concatenate([np.asarray(network.operator_ms) for network in profiled]) / units[rows.network]
    times = np.maximum(times, _LEAST_REFERENCES)
    totals = np.array([network.native.latency_ms for network in profiled]) / units
    regressors = {}
    for group in sorted(set(rows.groups.tolist())):
        mask = rows.groups == group
        # An operator matters by its share of its network's time, not by its count.
        weight = np.sqrt(np.clip(times[mask] / totals[rows.network[mask]], _LEAST_SHARE, None))
        log_ratio = np.log(times[mask] / rows.roofline[mask])
        data = lightgbm.Dataset(*merged(rows.values[mask], log_ratio, weight), params={"verbose": -1})
        regressors[group] = lightgbm.train(PARAMETERS, data, num_boost_round=TREES)
    counts = np.bincount(rows.network, minlength=len(profiled))
    missing = totals - np.bincount(rows.network, times, len(profiled))
    return NativeModel(regressors, weighted_median(missing / counts, counts / totals))


def merged(
    values: NDArray[np.float32], target: Floats, weight: Floats
) -> tuple[NDArray[np.float32], Floats, None, Floats]:
    """Rows of equal features as one row with their mean target and summed weight, as LightGBM takes them.

    A third of all operators are others' equals: blocks repeat. Least squares are the same either way.
    """
    _, first, which = np.unique(
        np.ascontiguousarray(values).view(f"V{values.itemsize * values.shape[1]}").reshape(-1),
        return_index=True,
        return_inverse=True,
    )
    total = np.bincount(which, weight).astype(np.float64)
    return values[first], np.bincount(which, weight * target) / total, None, total
