"""Trains the operator models from a campaign's shards; needs the extra ``train``.

``python -m sectum.predict.training --data data/operators --out src/sectum/predict/artefacts/operators``
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.errors import UsageError
from sectum.graph.runtime import machine_nchwc_block
from sectum.measure.campaign import read, restore
from sectum.predict.features import FEATURES, GROUPS, SCHEMA_VERSION, extract, schema_hash
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


def load_rows(folder: Path) -> Rows:
    """Read the shards and compute the features."""
    records = [record for record in read(folder) if not record["error"]]
    if not records:
        raise UsageError(f"{folder} holds no measured operators; run python -m sectum.measure.campaign first")
    features, groups, estimates, times, network = [], [], [], [], []
    cache: dict[tuple[str, int], tuple[NDArray[np.float32], str, float]] = {}
    for index, record in enumerate(records):
        for description, time in zip(record["operators"], record["times_references"], strict=True):
            key = (description, record["threads"])
            if key not in cache:
                one = extract(restore(description), threads=record["threads"])
                cache[key] = (one.values[0], one.groups[0], float(one.roofline[0]))
            row, group, estimate = cache[key]
            features.append(row)
            groups.append(group)
            estimates.append(estimate)
            times.append(max(time, 1e-6))
            network.append(index)
    sources: dict[tuple[str, int], int] = {}
    threads = np.array([record["threads"] for record in records])
    reference = np.array([record["reference_ms"] for record in records])
    return Rows(
        np.array(features, dtype=np.float32),
        np.array(groups),
        np.array(estimates),
        np.array(times),
        np.array(network),
        np.array([record["total_references"] for record in records], dtype=np.float64),
        tuple(record["family"] for record in records),
        threads,
        np.array([sources.setdefault((r["family"], r["seed"]), len(sources)) for r in records]),
        float(np.median(reference)),
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


def train(data: Path, out: Path, machine: str) -> dict[str, Any]:
    """Cross-validate, train on everything, write the artefact; gives the manifest."""
    rows = load_rows(data)
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
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--machine", required=True, help="the machine that the data come from, in words")
    options = parser.parse_args(arguments)
    manifest = train(options.data, options.out, options.machine)
    json.dump(manifest["training"], sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
