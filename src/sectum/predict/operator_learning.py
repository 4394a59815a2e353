"""Learns how long operators take, from networks whose operators were timed one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.errors import UsageError
from sectum.measure import operator_campaign
from sectum.predict.features import OperatorFeatures, extract
from sectum.predict.measured import MeasuredNetwork
from sectum.predict.operator_model import with_overhead

TREES = 300
PARAMETERS = {
    "objective": "regression", "num_leaves": 31, "learning_rate": 0.06, "min_data_in_leaf": 8, "bagging_fraction": 0.7,
    "bagging_freq": 1, "feature_fraction": 0.6, "seed": 0, "deterministic": True, "force_row_wise": True, "verbose": -1,
}  # fmt: skip
_LEAST_SHARE = 1e-4


@dataclass(frozen=True)
class Observation:
    """One measured network.

    Attributes:
        family: of the network.
        topology: what its near relatives share with it; they go together where networks are split.
        threads: of the run.
        features: of its operators, in their order.
        times: of its operators, in reference units.
        total: of the whole network, in reference units.
        reference_ms: the reference kernel's time meanwhile.
        whole: whether the features know what stands beside each operator.
    """

    family: str
    topology: str
    threads: int
    features: OperatorFeatures
    times: NDArray[np.float64]
    total: float
    reference_ms: float
    whole: bool


def observed(networks: Iterable[MeasuredNetwork]) -> Iterator[Observation]:
    """Networks of a dataset of which each operator was timed."""
    for network in networks:
        if network.operator_ms is not None:
            products_ms = network.typical.products_ms
            yield Observation(
                family=network.family,
                topology=network.topology,
                threads=network.threads,
                features=network.features,
                times=np.maximum(network.operator_ms / products_ms, 1e-6),
                total=network.native.latency_ms / products_ms,
                reference_ms=products_ms,
                whole=True,
            )


def from_operator_campaign(folder: Path) -> Iterator[Observation]:
    """Networks of an operator campaign, those that failed left out; what stood beside an operator was not kept."""
    for row in operator_campaign.read(folder):
        if row["error"]:
            continue
        singles = [
            extract(operator_campaign.restore(text), threads=row["threads"], whole=False) for text in row["operators"]
        ]
        yield Observation(
            family=row["family"].partition(":")[0],
            topology=f"{row['family']}/{row['seed']}",
            threads=row["threads"],
            features=OperatorFeatures(
                tuple(one.groups[0] for one in singles),
                np.concatenate([one.values for one in singles]),
                np.concatenate([one.roofline for one in singles]),
                tuple(one.costs[0] for one in singles),
            ),
            times=np.maximum(np.array(row["times_references"], dtype=np.float64), 1e-6),
            total=row["total_references"],
            reference_ms=row["reference_ms"],
            whole=False,
        )


@dataclass(frozen=True)
class LearnedOperators:
    """What `learn` found; `sectum.predict.operator_model.OperatorModel` is its stored form.

    Attributes:
        groups: a regressor for each group of operators; those of a group without one take their roofline.
        overhead: see `overhead`.
    """

    groups: Mapping[str, Any]
    overhead: float

    def references(self, features: Sequence[OperatorFeatures]) -> list[NDArray[np.float64]]:
        """Times of the operators of each network, in reference units."""
        if not features:
            return []
        groups = np.array([group for of in features for group in of.groups])
        values = np.concatenate([of.values for of in features])
        times = np.concatenate([of.roofline for of in features])
        for group in set(groups.tolist()):
            if group in self.groups:
                mask = groups == group
                times[mask] *= np.exp(self.groups[group].predict(values[mask]))
        ends = np.cumsum([len(of.groups) for of in features])
        return np.split(with_overhead(times, self.overhead), ends[:-1])


def learn(
    seen: Sequence[Observation], *, parameters: Mapping[str, Any] = PARAMETERS, trees: int = TREES
) -> LearnedOperators:
    """Learn from all of these.

    Args:
        seen: networks whose operators were timed.
        parameters: of LightGBM.
        trees: for each group of operators.

    Raises:
        UsageError: there are none.
    """
    if not seen:
        raise UsageError("no measured network: collect some first (sectum dataset collect)")
    import lightgbm

    groups = np.array([group for one in seen for group in one.features.groups])
    values = np.concatenate([one.features.values for one in seen])
    times = np.concatenate([one.times for one in seen])
    logs = np.log(times / np.concatenate([one.features.roofline for one in seen]))
    # An operator matters by its share of its network's time, not by its count.
    share = times / np.repeat([one.total for one in seen], [len(one.times) for one in seen])
    weight = np.sqrt(np.clip(share, _LEAST_SHARE, None))
    regressors = {}
    for group in sorted(set(groups.tolist())):
        mask = groups == group
        data = lightgbm.Dataset(*merged(values[mask], logs[mask], weight[mask]), params={"verbose": -1})
        regressors[group] = lightgbm.train(dict(parameters), data, num_boost_round=trees)
    return LearnedOperators(regressors, overhead(seen))


def merged(
    values: NDArray[np.float32], target: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64], None, NDArray[np.float64]]:
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


def fold_of(seen: Sequence[Observation], folds: int) -> NDArray[np.int64]:
    """Number of each network's fold; near relatives have the same."""
    numbers = {topology: i for i, topology in enumerate(sorted({one.topology for one in seen}))}
    shuffled = np.random.default_rng(0).permutation(len(numbers))
    return np.array([shuffled[numbers[one.topology]] % folds for one in seen])


def overhead(seen: Sequence[Observation]) -> float:
    """Give the time per operator between its profile and its share of a whole inference, in reference units.

    Mostly negative: reading the clock for the profile takes time of its own. It is the constant that makes the mean
    absolute relative error of whole networks smallest, which is a weighted median.
    """
    counts = np.array([len(one.times) for one in seen])
    totals = np.array([one.total for one in seen])
    candidates = (totals - np.array([one.times.sum() for one in seen])) / counts
    order = np.argsort(candidates)
    weights = np.cumsum((counts / totals)[order])
    return float(candidates[order][np.searchsorted(weights, weights[-1] / 2)])
