"""Learns operator times from networks whose operators were timed one by one."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.errors import UsageError
from sectum.lab.dataset import kind_campaign, operator_campaign
from sectum.lab.learners.measured import MeasuredNetwork
from sectum.ort import stored
from sectum.ort.cpu import Cpu
from sectum.ort.operators import KINDS
from sectum.predict.features import OperatorFeatures, assemble, describe_graph, extract
from sectum.predict.linear_times import ANY_TYPE, LEAST_REFERENCES, LinearTimes
from sectum.predict.operator_model import Overheads, with_time

TREES = 160
PARAMETERS = {
    "objective": "regression", "num_leaves": 31, "learning_rate": 0.08, "min_data_in_leaf": 40, "bagging_fraction": 0.7,
    "bagging_freq": 1, "feature_fraction": 0.6, "seed": 0, "deterministic": True, "force_row_wise": True,
    "num_threads": 1, "verbose": -1,
}  # fmt: skip
_LEAST_SHARE = 1e-4
_LONE_SHARE = 2e-3
"""Of an operator that was timed among others of its kind: networks show better what caches hold."""
THREAD_PARAMETERS = {**PARAMETERS, "num_leaves": 15, "learning_rate": 0.05, "min_data_in_leaf": 20, "lambda_l2": 1}
"""Fewer networks were measured with two threads."""
_MOST_ROWS = 5_000
"""So many operators of a type, drawn at random, tell its costs."""
_FEWEST_ROWS, _FEWEST_SCALED = 30, 4
"""For trees, and costs of a type's own; for those of all types, or of its other variants, times a factor of its own."""
_ROUNDS, _OUTLIER = 60, 0.15
_LEAST_RANGE = 8
"""Most over least of a kind of work, for it to have a cost of its own."""
_LARGEST_CORRECTION = 1.0
_CERTAIN = 0.1


@dataclass(frozen=True)
class Observation:
    """One measured network.

    Attributes:
        family: of the network.
        topology: what its near relatives share with it; they go together where networks are split.
        threads: of the run.
        features: of its operators, in their order.
        times: of its operators by the runtime's profile, normalized.
        total: native latency of the whole network, normalized; 0 where only its operators were timed.
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

    @property
    def shares(self) -> NDArray[np.float64]:
        """How much each operator counts: its share of its network's time; little where there is none."""
        return self.times / self.total if self.total else np.full(len(self.times), _LONE_SHARE)


def observed(networks: Iterable[MeasuredNetwork]) -> Iterator[Observation]:
    """Networks of a dataset whose operators were timed one by one.

    In an enclave that it fits into, a network takes as long as outside, but for a factor that all have in common (1.00
    in the dataset). So such runs are further measurements of its native latency; one alone has an error of 3 %.
    """
    networks = list(networks)
    logs = [_roomy_logs(network) for network in networks]
    common = float(np.median(np.concatenate(logs))) if any(map(len, logs)) else 0.0
    for network, roomy in zip(networks, logs, strict=True):
        if network.operator_ms is not None:
            products_ms = network.references.products_ms
            yield Observation(
                family=network.family,
                topology=network.topology,
                threads=network.threads,
                features=network.features,
                times=np.maximum(network.operator_ms / products_ms, 1e-6),
                total=network.native.latency_ms * float(np.exp(np.mean([0.0, *(roomy - common)]))) / products_ms,
                reference_ms=products_ms,
                whole=True,
            )


def _roomy_logs(network: MeasuredNetwork) -> NDArray[np.float64]:
    """Logarithms of the latencies in enclaves that a network fits into, over the native one."""
    roomy = [run.latency_ms for run in network.runs if run.loads == 0 and run.uncertainty <= _CERTAIN]
    return np.log(np.array(roomy) / network.native.latency_ms)


def from_operator_campaign(folder: Path, cpu: Cpu) -> Iterator[Observation]:
    """Networks of an operator campaign, those that failed left out; what stood beside an operator was not kept.

    Args:
        folder: of the campaign.
        cpu: kind of CPU that is learned for.
    """
    for row in operator_campaign.read(folder):
        if row["error"]:
            continue
        singles = (operator_campaign.restore(text, cpu) for text in row["operators"])
        yield Observation(
            family=row["family"].partition(":")[0],
            topology=f"{row['family']}/{row['seed']}",
            threads=row["threads"],
            features=assemble([describe_graph(one, threads=row["threads"], whole=False) for one in singles]),
            times=np.maximum(np.array(row["times_references"], dtype=np.float64), 1e-6),
            total=row["total_references"],
            reference_ms=row["reference_ms"],
            whole=False,
        )


def from_kind_campaign(folder: Path, cpu: Cpu) -> Iterator[Observation]:
    """Operators of a campaign of kinds, those of one network together; networks that failed are left out.

    Args:
        folder: of the campaign.
        cpu: kind of CPU that is learned for.
    """
    for row in kind_campaign.FORM.read(folder):
        if not row["error"]:
            yield Observation(
                family=row["kind"],
                topology=f"{row['kind']}/{row['seed']}",
                threads=row["threads"],
                features=extract(stored.loads(row["graph"], cpu), threads=row["threads"]),
                times=np.maximum(np.array(row["times_references"], dtype=np.float64), 1e-6),
                total=0.0,
                reference_ms=row["reference_ms"],
                whole=True,
            )


def only(one: Observation, mask: NDArray[np.bool_]) -> Observation:
    """Some operators of a network, as if they were all of it."""
    chosen = np.flatnonzero(mask)
    features = one.features
    part = OperatorFeatures(
        tuple(features.kinds[i] for i in chosen),
        features.values[chosen],
        features.roofline[chosen],
        features.work[chosen],
        tuple(features.types[i] for i in chosen),
        tuple(features.costs[i] for i in chosen),
    )
    times = one.times[chosen]
    return replace(one, features=part, times=times, total=float(times.sum()) if one.total else 0.0)


def without_kinds(one: Observation, kinds: Container[str]) -> Observation:
    """Leave operators of some kinds out."""
    return only(one, np.array([kind not in kinds for kind in one.features.kinds], dtype=bool))


@dataclass(frozen=True)
class LearnedOperators:
    """What `learn` found; `sectum.predict.operator_model.OperatorModel` is its stored form.

    Attributes:
        linear: a first estimate from the work that kernels do.
        groups: for each group of operators, a regressor of the logarithm of what that estimate is off by.
        threads: for each group that was measured with several threads, a regressor of the logarithm of the time with
            them over that with one.
        overheads: see `overheads`.
    """

    linear: LinearTimes
    groups: Mapping[str, Any]
    threads: Mapping[str, Any]
    overheads: Overheads

    def normalized_times(self, features: Sequence[OperatorFeatures]) -> list[NDArray[np.float64]]:
        """Normalized times of the operators of each network, as they count in a whole inference."""
        if not features:
            return []
        ends = np.cumsum([len(of.kinds) for of in features])
        return [self.overheads.started(of_one) for of_one in np.split(self.of_operators(features), ends[:-1])]

    def of_operators(self, features: Sequence[OperatorFeatures]) -> NDArray[np.float64]:
        """Normalized times of the operators of all networks, without an inference's start."""
        groups = np.array([group for of in features for group in of.kinds])
        values = np.concatenate([of.values for of in features])
        times = np.concatenate([self.linear.times(of) for of in features])
        several = np.concatenate([of.several_threads for of in features])
        _correct(times, self.groups, groups, values)
        _correct(times, self.threads, np.where(several, groups, ""), with_time(values, times))
        return times


def _correct(
    times: NDArray[np.float64], regressors: Mapping[str, Any], groups: NDArray[np.str_], values: NDArray[np.float32]
) -> None:
    """Multiply times by what the regressors of their groups say; where there is none they stay."""
    for group, regressor in regressors.items():
        mask = groups == group
        if mask.any():
            times[mask] *= np.exp(regressor.predict(values[mask]))


def learn(seen: Sequence[Observation], *, trees: int = TREES) -> LearnedOperators:
    """Learn from all of these.

    Operators' times are scaled so that they add up to their network's latency: a profile is short, and the machine's
    speed during it is less certain than the latency. What several threads change is learned from networks that ran
    with several, against the times that were learned for one.

    Args:
        seen: networks whose operators were timed.
        trees: for each group of operators.

    Raises:
        UsageError: there are none.
    """
    if not any(one.total for one in seen):
        raise UsageError("no measured network: collect some first (sectum dataset collect)")
    fewest = min(one.threads for one in seen if one.total)
    single = [one for one in seen if one.threads <= fewest]
    extra = overheads(single)
    rows = _Rows.of(single, extra)
    linear = _fit_linear(single, rows)
    estimates = np.concatenate([linear.times(one.features) for one in single])
    groups = rows.regressors(estimates, rows.values, PARAMETERS, trees)
    learned = LearnedOperators(linear, groups, {}, extra)
    several = [one for one in seen if one.threads > fewest]
    if not several:
        return learned
    rows = _Rows.of(several, extra)
    alone = learned.of_operators([one.features for one in several])
    return replace(learned, threads=rows.regressors(alone, with_time(rows.values, alone), THREAD_PARAMETERS, trees))


@dataclass(frozen=True)
class _Rows:
    """Operators of several networks, one row each.

    Attributes:
        groups: name of each one's group.
        types: its type, with its variant.
        values: its features.
        times: as it counts in an inference, normalized.
        weight: how much it counts.
    """

    groups: NDArray[np.str_]
    types: NDArray[np.str_]
    values: NDArray[np.float32]
    times: NDArray[np.float64]
    weight: NDArray[np.float64]

    @classmethod
    def of(cls, seen: Sequence[Observation], extra: Overheads) -> _Rows:
        return cls(
            np.array([group for one in seen for group in one.features.kinds]),
            np.array([kind for one in seen for kind in one.features.types]),
            np.concatenate([one.features.values for one in seen]),
            np.concatenate([_in_whole(one, extra) for one in seen]),
            np.sqrt(np.clip(np.concatenate([one.shares for one in seen]), _LEAST_SHARE, None)),
        )

    def regressors(
        self,
        estimates: NDArray[np.float64],
        values: NDArray[np.float32],
        parameters: Mapping[str, Any],
        trees: int,
    ) -> dict[str, Any]:
        """For each group with enough rows, what tells the logarithm of its times over estimates from these values."""
        import lightgbm

        logs = np.clip(np.log(self.times / estimates), -_LARGEST_CORRECTION, _LARGEST_CORRECTION)
        found = {}
        for group in np.unique(self.groups).tolist():
            mask = self.groups == group
            if mask.sum() < _FEWEST_ROWS:
                continue
            data = lightgbm.Dataset(*merged(values[mask], logs[mask], self.weight[mask]), params={"verbose": -1})
            found[group] = lightgbm.train(dict(parameters), data, num_boost_round=trees)
        return found


def _in_whole(one: Observation, extra: Overheads) -> NDArray[np.float64]:
    """Times of a network's operators as they count in an inference; with its start they add up to its latency."""
    times = extra.unprofiled(one.times)
    if not one.total:
        return np.maximum(times, LEAST_REFERENCES)
    total = max(one.total - extra.start, one.total / 2)
    scaled: NDArray[np.float64] = np.maximum(times * (total / times.sum()), LEAST_REFERENCES)
    return scaled


def _fit_linear(seen: Sequence[Observation], rows: _Rows) -> LinearTimes:
    """Find the costs of work, by type where there are enough operators of it."""
    work = np.concatenate([one.features.work for one in seen])
    types, which = np.unique(rows.types, return_inverse=True)
    plain, plain_of_type = np.unique([kind.partition(" ")[0] for kind in types.tolist()], return_inverse=True)
    costs: dict[str, dict[str, NDArray[np.float64]]] = {}
    for group in KINDS:
        of_group = np.flatnonzero(rows.groups == group)
        if not len(of_group):
            continue
        costs[group] = {ANY_TYPE: _costs(of_group, work, rows)}
        for names, numbers in ((plain, plain_of_type[which[of_group]]), (types, which[of_group])):
            for number, count in zip(*np.unique(numbers, return_counts=True), strict=True):
                kind, chosen = str(names[number]), of_group[numbers == number]
                if count >= _FEWEST_ROWS and kind not in costs[group]:
                    costs[group][kind] = _costs(chosen, work, rows)
                elif count >= _FEWEST_SCALED and kind not in costs[group]:
                    usual = costs[group].get(kind.partition(" ")[0], costs[group][ANY_TYPE])
                    off = rows.times[chosen] / np.maximum(work[chosen] @ usual, 1e-9)
                    costs[group][kind] = usual * np.median(off)
    return LinearTimes(costs)


def _costs(chosen: NDArray[np.int64], every: NDArray[np.float64], rows: _Rows) -> NDArray[np.float64]:
    """Costs of the work of some operators, none below zero, with the least weighted squares of logarithmic errors.

    Outliers count less.
    Non-negative least squares of relative errors give the start. They alone are too low: an estimate of half the time
    is off by less than one of twice the time.
    """
    from scipy.optimize import least_squares, nnls

    if len(chosen) > _MOST_ROWS:
        chosen = np.random.default_rng(0).choice(chosen, _MOST_ROWS, replace=False)
    work, times, weight = every[chosen], rows.times[chosen], rows.weight[chosen]
    largest, smallest = work.max(axis=0), work.min(axis=0)
    # Less than 1 is the rounding of a size that is none. Work that hardly differs would get any cost, and be wrong
    # where there is much of it; the column of ones stands for what all operators have in common.
    used = (largest >= 1) & ((largest > _LEAST_RANGE * smallest) | (largest == 1))
    columns, trust = work[:, used] / largest[used], np.sqrt(weight)
    relative = columns / times[:, None]
    # Least squares of the triangular factor are those of all rows.
    factor: Any = np.linalg.qr(np.column_stack([relative, np.ones(len(times))]) * trust[:, None], mode="r")
    start, _ = nnls(factor[:, :-1], factor[:, -1])
    start = np.maximum(start, 1e-4 / relative.max(axis=0))

    def errors(costs: NDArray[np.float64]) -> NDArray[np.float64]:
        logs: NDArray[np.float64] = np.log(np.maximum(relative @ costs, 1e-9)) * trust
        return logs

    def slopes(costs: NDArray[np.float64]) -> NDArray[np.float64]:
        matrix: NDArray[np.float64] = relative * (trust / np.maximum(relative @ costs, 1e-9))[:, None]
        return matrix

    fitted = least_squares(
        errors, start, slopes, bounds=(0, np.inf), x_scale=start, loss="soft_l1", f_scale=_OUTLIER * trust.mean(),
        max_nfev=_ROUNDS,
    )  # fmt: skip
    found = np.zeros(work.shape[1])
    found[used] = np.where(fitted.x > 1e-6 * start, fitted.x, 0.0) / largest[used]
    return found


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


def overheads(seen: Sequence[Observation]) -> Overheads:
    """Find the time that profiling adds to each operator, and the time of an inference beside its operators.

    Latency less the sum of the profile is regressed on the number of operators, a constant, and the sum itself, with
    the least absolute relative errors. The coefficient of the sum is not used: long networks differ for other reasons.
    """
    seen = [one for one in seen if one.total]
    totals = np.array([one.total for one in seen])
    sums = np.array([one.times.sum() for one in seen])
    columns = np.column_stack([[-float(len(one.times)) for one in seen], np.ones(len(seen)), sums])
    profiling, start, _ = _least_absolute(columns / totals[:, None], 1 - sums / totals)
    if start < 0:
        profiling, _ = _least_absolute(columns[:, [0, 2]] / totals[:, None], 1 - sums / totals)
    return Overheads(float(profiling), max(0.0, float(start)))


def _least_absolute(columns: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients that minimise the sum of absolute errors: a linear program with a bound for each row's error."""
    from scipy.optimize import linprog
    from scipy.sparse import eye_array, hstack, vstack

    rows, width = columns.shape
    scale = np.abs(columns).max(axis=0)
    scaled, bound = columns / scale, -eye_array(rows)
    found = linprog(
        np.concatenate([np.zeros(width), np.ones(rows)]),
        A_ub=vstack([hstack([scaled, bound]), hstack([-scaled, bound])]),
        b_ub=np.concatenate([values, -values]),
        bounds=(None, None),
    )
    solution: NDArray[np.float64] = found.x[:width] / scale
    return solution
