"""Trains the operator models from measured networks; needs the extra ``train``.

``python -m sectum.predict.training --data data/networks --data data/operators --out \
src/sectum/predict/artefacts/operators --machine "..."``
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.errors import UsageError
from sectum.graph import stored
from sectum.graph.runtime import machine_nchwc_block
from sectum.measure import dataset, operator_campaign
from sectum.measure.reference import References
from sectum.predict.features import FEATURES, GROUPS, SCHEMA_VERSION, OperatorFeatures, extract, schema_hash
from sectum.predict.operator_model import with_overhead

FOLDS = 5
TREES = 300
PARAMETERS = {
    "objective": "regression", "num_leaves": 31, "learning_rate": 0.06, "min_data_in_leaf": 8, "bagging_fraction": 0.7,
    "bagging_freq": 1, "feature_fraction": 0.6, "seed": 0, "deterministic": True, "force_row_wise": True, "verbose": -1,
}  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """Operators of all measured networks, one row each.

    Attributes:
        features: float32, shape ``(rows, len(FEATURES))``.
        groups: group of each row.
        roofline: first estimate, in reference units.
        times: measured, in reference units.
        network: index of the row's network.
        totals: measured time of each network, in reference units.
        names: family of each network.
        threads: of each network.
        sources: which drawn network each network is: the same one with other threads has the same source.
    """

    features: NDArray[np.float32]
    groups: NDArray[np.str_]
    roofline: NDArray[np.float64]
    times: NDArray[np.float64]
    network: NDArray[np.int64]
    totals: NDArray[np.float64]
    names: tuple[str, ...]
    threads: NDArray[np.int64]
    sources: NDArray[np.int64]
    reference_ms: float


@dataclass(frozen=True)
class Observation:
    """One measured network.

    Attributes:
        family: of the network.
        source: names the network, whatever its threads.
        threads: of the run.
        features: of its operators, in their order.
        times: of its operators, in reference units.
        total: of the whole network, in reference units.
        reference_ms: the reference kernel's time meanwhile.
    """

    family: str
    source: str
    threads: int
    features: OperatorFeatures
    times: Sequence[float]
    total: float
    reference_ms: float


def observations(folder: Path) -> Iterator[Observation]:
    """Networks of a dataset (`sectum.measure.dataset`) or of an operator campaign, those that failed left out."""
    if any(folder.glob("operators-*.parquet")):
        yield from _from_operator_campaign(folder)
        return
    rows = [row for row in dataset.read(folder) if not row["error"] and row["operator_times"] is not None]
    runs = [run for row in rows for run in row["runs"]]
    typical = References(*(statistics.fmean(run[name] for run in runs) for name in ("products_ms", "sums_ms")))
    for row in rows:
        native = row["runs"][0]
        # Over the reference kernel of products, as all that is learned, at the machine's typical state.
        factor = typical.mixed_ms(native["sums_share"]) / typical.products_ms
        yield Observation(
            row["family"],
            row["key"].partition("#")[0],
            row["threads"],
            extract(stored.loads(row["graph"]), threads=row["threads"]),
            [factor * time for time in row["operator_times"]],
            factor * native["latency"],
            typical.products_ms,
        )


def _from_operator_campaign(folder: Path) -> Iterator[Observation]:
    for row in operator_campaign.read(folder):
        if row["error"]:
            continue
        singles = [extract(operator_campaign.restore(text), threads=row["threads"]) for text in row["operators"]]
        features = OperatorFeatures(
            tuple(one.groups[0] for one in singles),
            np.concatenate([one.values for one in singles]),
            np.concatenate([one.roofline for one in singles]),
            tuple(one.costs[0] for one in singles),
        )
        yield Observation(
            row["family"],
            f"{row['family']}/{row['seed']}/b{row['batch']}",
            row["threads"],
            features,
            row["times_references"],
            row["total_references"],
            row["reference_ms"],
        )


def load_rows(seen: Sequence[Observation]) -> Rows:
    """Put the operators of all networks into one table.

    Raises:
        UsageError: there are none.
    """
    if not seen:
        raise UsageError("no measured network: collect some first (sectum dataset collect)")
    sources: dict[str, int] = {}
    return Rows(
        features=np.concatenate([one.features.values for one in seen]),
        groups=np.array([group for one in seen for group in one.features.groups]),
        roofline=np.concatenate([one.features.roofline for one in seen]),
        times=np.maximum(np.concatenate([np.asarray(one.times, dtype=np.float64) for one in seen]), 1e-6),
        network=np.repeat(np.arange(len(seen)), [len(one.times) for one in seen]),
        totals=np.array([one.total for one in seen], dtype=np.float64),
        names=tuple(one.family for one in seen),
        threads=np.array([one.threads for one in seen]),
        sources=np.array([sources.setdefault(one.source, len(sources)) for one in seen]),
        reference_ms=float(np.median([one.reference_ms for one in seen])),
    )


def fit(rows: Rows, chosen: NDArray[np.bool_]) -> dict[str, Any]:
    """One regressor per group, on the chosen rows."""
    import lightgbm

    regressors: dict[str, Any] = {}
    for group in GROUPS:
        mask = chosen & (rows.groups == group)
        if not mask.any():
            raise UsageError(f"no operator of group '{group}' was measured: collect more networks")
        # An operator matters by its share of its network's time, not by its count.
        share = rows.times[mask] / rows.totals[rows.network[mask]]
        data = lightgbm.Dataset(
            rows.features[mask],
            np.log(rows.times[mask] / rows.roofline[mask]),
            weight=np.sqrt(np.clip(share, 1e-4, None)),
            params={"verbose": -1},
        )
        regressors[group] = lightgbm.train(PARAMETERS, data, num_boost_round=TREES)
    return regressors


def operator_times(rows: Rows, regressors: dict[str, Any], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Predicted time of the chosen rows, in reference units; zero elsewhere."""
    predicted = np.zeros(len(rows.times))
    for group, regressor in regressors.items():
        mask = chosen & (rows.groups == group)
        if mask.any():
            predicted[mask] = rows.roofline[mask] * np.exp(regressor.predict(rows.features[mask]))
    return predicted


def cross_validate(rows: Rows, fold_of_network: NDArray[np.int64], extra: float) -> NDArray[np.float64]:
    """Each network's time as predicted by models that saw none of its fold, in reference units."""
    summed = np.zeros(len(rows.totals))
    for fold in np.unique(fold_of_network):
        held_out = fold_of_network[rows.network] == fold
        predicted = with_overhead(operator_times(rows, fit(rows, ~held_out), held_out), extra)
        summed += np.bincount(rows.network, predicted, minlength=len(rows.totals))
    return summed


def overhead(rows: Rows) -> float:
    """Time per operator between its profile and its share of a whole inference, in reference units.

    Mostly negative: reading the clock for the profile takes time of its own. It is the constant that makes the mean
    absolute relative error of whole networks smallest, which is a weighted median.
    """
    counts = np.bincount(rows.network, minlength=len(rows.totals))
    candidates = (rows.totals - np.bincount(rows.network, rows.times, minlength=len(rows.totals))) / counts
    order = np.argsort(candidates)
    weights = np.cumsum((counts / rows.totals)[order])
    return float(candidates[order][np.searchsorted(weights, weights[-1] / 2)])


def accuracy(measured: NDArray[np.float64], predicted: NDArray[np.float64]) -> dict[str, float]:
    """Share within 5, 10 and 20 %, mean absolute percentage error, spread of the logarithm."""
    error = np.abs(predicted / measured - 1)
    log = np.log(measured / predicted)
    return {
        "n": float(len(measured)),
        "within_5": float(np.mean(error <= 0.05)),
        "within_10": float(np.mean(error <= 0.10)),
        "within_20": float(np.mean(error <= 0.20)),
        "mape": float(np.mean(error)),
        "sigma": float(np.sqrt(np.mean(np.square(np.clip(log, *np.quantile(log, [0.02, 0.98])))))),
    }


def export(regressors: dict[str, Any], folder: Path) -> dict[str, dict[str, str]]:
    """Write one ONNX file per group; gives the file and SHA-256 of each."""
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    folder.mkdir(parents=True, exist_ok=True)
    entries = {}
    for group, regressor in regressors.items():
        columns = [("features", FloatTensorType([None, len(FEATURES)]))]
        model = convert_lightgbm(regressor, initial_types=columns, target_opset=15)
        content = model.SerializeToString(deterministic=True)
        (folder / f"{group}.onnx").write_bytes(content)
        entries[group] = {"file": f"{group}.onnx", "sha256": hashlib.sha256(content).hexdigest()}
    return entries


def train(data: Sequence[Path], out: Path, machine: str) -> dict[str, Any]:
    """Cross-validate, train on everything, write the artefact; gives the manifest."""
    rows = load_rows([one for folder in data for one in observations(folder)])
    extra = overhead(rows)
    families = np.unique([name.partition(":")[0] for name in rows.names], return_inverse=True)[1]
    splits = {"random": rows.sources % FOLDS, "leave_family_out": families}
    figures = {}
    for name, fold in splits.items():
        summed = cross_validate(rows, fold, extra)
        figures[name] = accuracy(rows.totals, summed)
        for threads in np.unique(rows.threads):
            chosen = rows.threads == threads
            figures[f"{name}, {threads} threads"] = accuracy(rows.totals[chosen], summed[chosen])
    profiled = np.bincount(rows.network, with_overhead(rows.times, extra), len(rows.totals)).astype(np.float64)
    figures["sum of profiled operators"] = accuracy(rows.totals, profiled)
    everything = np.ones(len(rows.times), dtype=bool)
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "schema_sha256": schema_hash(),
        "machine": machine,
        "nchwc_block": machine_nchwc_block(),
        "reference_ms": rows.reference_ms,
        "most_threads": int(rows.threads.max()),
        "native_sigma": figures["random"]["sigma"],
        "overhead_references": extra,
        "groups": export(fit(rows, everything), out),
        "training": {
            "networks": len(set(rows.sources.tolist())),
            "measurements": len(rows.totals),
            "operators": len(rows.times),
            "operators_by_group": {group: int(np.sum(rows.groups == group)) for group in GROUPS},
            "kind": "measured",
            "accuracy": figures,
        },
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def main(arguments: Sequence[str] | None = None) -> int:
    """Train from the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, action="append", help="may be given again")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--machine", required=True, help="the machine that the data come from, in words")
    options = parser.parse_args(arguments)
    manifest = train(options.data, options.out, options.machine)
    json.dump(manifest["training"], sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
