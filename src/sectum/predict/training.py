"""Trains the shipped models from measured networks; needs the extra ``train``.

``python -m sectum.predict.training --data data/networks --operators data/operators --out \
src/sectum/predict/artefacts/operators --machine "..."``
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.errors import UsageError
from sectum.graph.runtime import machine_nchwc_block
from sectum.predict import measured
from sectum.predict.features import FEATURES, GROUPS, SCHEMA_VERSION, schema_hash
from sectum.predict.measured import MeasuredNetwork
from sectum.predict.operator_learning import LearnedOperators, Observation, fold_of, from_operator_campaign, learn
from sectum.predict.operator_learning import observed as observed_in
from sectum.predict.operator_model import with_overhead
from sectum.predict.paging_learning import PageCostModel, learn_page_costs
from sectum.units import PAGE_BYTES

FOLDS = 5
TRAINED_ON = "dataset, 1 threads"
"""The figures that intervals are made from."""


def accuracy(measured: NDArray[np.float64], predicted: NDArray[np.float64]) -> dict[str, float]:
    """Share within 5, 10 and 20 %, mean absolute percentage error, spread of the logarithm."""
    error = np.abs(predicted / measured - 1)
    return {
        "n": float(len(measured)),
        "within_5": float(np.mean(error <= 0.05)),
        "within_10": float(np.mean(error <= 0.10)),
        "within_20": float(np.mean(error <= 0.20)),
        "mape": float(np.mean(error)),
        "sigma": spread(np.log(measured / predicted)),
    }


def spread(logs: NDArray[np.float64]) -> float:
    """Root mean square, the outermost fiftieths drawn in."""
    return float(np.sqrt(np.mean(np.square(np.clip(logs, *np.quantile(logs, [0.02, 0.98]))))))


def cross_validate(seen: Sequence[Observation], fold_of_network: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each network's time as predicted by models that saw none of its fold, in reference units."""
    totals = np.zeros(len(seen))
    for fold in np.unique(fold_of_network):
        inside = fold_of_network == fold
        learned = learn([one for one, out in zip(seen, inside, strict=True) if not out])
        held_out = [one.features for one, out in zip(seen, inside, strict=True) if out]
        totals[inside] = [times.sum() for times in learned.references(held_out)]
    return totals


def figures(seen: Sequence[Observation], extra: float) -> dict[str, dict[str, float]]:
    """Accuracy on networks not trained on, near relatives kept together; by where they come from and threads."""
    totals = np.array([one.total for one in seen])
    kinds = np.array([f"{'dataset' if one.whole else 'operator campaign'}, {one.threads} threads" for one in seen])
    predicted = cross_validate(seen, fold_of(seen, FOLDS))
    found = {str(kind): accuracy(totals[kinds == kind], predicted[kinds == kind]) for kind in np.unique(kinds)}
    whole = np.array([one.whole for one in seen])
    if whole.any():
        sums = np.array([with_overhead(one.times, extra).sum() for one in seen])
        found["sum of profiled operators of the dataset"] = accuracy(totals[whole], sums[whole])
    return found


def working_set_sigma(networks: Sequence[MeasuredNetwork]) -> float:
    """Spread of log(measured / modelled working set)."""
    return spread(np.log([of.working_set_bytes / (of.trace.pages * PAGE_BYTES) for of in networks]))


def export(learned: LearnedOperators, folder: Path) -> dict[str, dict[str, str]]:
    """Write one ONNX file per group; gives the file and SHA-256 of each."""
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    folder.mkdir(parents=True, exist_ok=True)
    entries = {}
    for group, regressor in learned.groups.items():
        columns = [("features", FloatTensorType([None, len(FEATURES)]))]
        model = convert_lightgbm(regressor, initial_types=columns, target_opset=15)
        content = model.SerializeToString(deterministic=True)
        (folder / f"{group}.onnx").write_bytes(content)
        entries[group] = {"file": f"{group}.onnx", "sha256": hashlib.sha256(content).hexdigest()}
    return entries


def train(data: Path, operators: Sequence[Path], out: Path, machine: str) -> dict[str, Any]:
    """Cross-validate, train on everything, write the artefact; gives the manifest.

    Raises:
        UsageError: nothing was measured, or nothing that pages, or no operator of some group.
        DatasetInvalid: the dataset is damaged.
    """
    networks = measured.without_repeats(measured.read(data))
    seen = [*observed_in(networks), *(one for folder in operators for one in from_operator_campaign(folder))]
    pages = learn_page_costs(networks)
    learned = learn(seen)
    missing = [group for group in GROUPS if group not in learned.groups]
    if missing:
        raise UsageError(f"no operator of group '{missing[0]}' was measured: collect more networks")
    found = figures(seen, learned.overhead)
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "schema_sha256": schema_hash(),
        "machine": machine,
        "nchwc_block": machine_nchwc_block(),
        "reference_ms": float(np.median([one.reference_ms for one in seen if one.whole])),
        "most_threads": max(one.threads for one in seen),
        "native_sigma": found[TRAINED_ON]["sigma"],
        "overhead_references": learned.overhead,
        "page_factors": dict(pages.factors),
        "page_cost_sigma": pages.sigma,
        "working_set_sigma": working_set_sigma(networks),
        "groups": export(learned, out),
        "training": _training(seen, pages, networks[-1].typical.sums_ms, found),
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def _training(
    seen: Sequence[Observation], pages: PageCostModel, sums_ms: float, found: dict[str, Any]
) -> dict[str, Any]:
    groups = [group for one in seen for group in one.features.groups]
    return {
        "networks": len({(one.family, one.topology) for one in seen}),
        "measurements": len(seen),
        "operators": len(groups),
        "operators_by_group": {group: groups.count(group) for group in GROUPS},
        "paging_rows": pages.rows,
        "swap_us": 1e3 * sums_ms * pages.swap,
        "minor_fault_us": 1e3 * sums_ms * pages.minor_fault,
        "kind": "measured",
        "accuracy": found,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Train from the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a dataset: sectum dataset collect")
    parser.add_argument("--operators", type=Path, default=[], action="append", help="of an operator campaign")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--machine", required=True, help="the machine that the data come from, in words")
    options = parser.parse_args(arguments)
    manifest = train(options.data, options.operators, options.out, options.machine)
    json.dump(manifest["training"], sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
