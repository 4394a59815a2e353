"""Trains the shipped models from measured networks; needs the extra ``train``.

``python -m sectum.lab.training.train --data data/networks --operators data/operators/epyc-zen4-vm --kinds \
data/kinds/epyc-zen4-vm --out src/sectum/predict/artefacts/operators/avx512 --machine "..." --name epyc-zen4-vm``
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum import zoo
from sectum.errors import UsageError
from sectum.lab.learners.lone_operators import LAYOUT_KINDS, standing_in
from sectum.lab.learners.measured import MeasuredNetwork, read, without_repeats
from sectum.lab.learners.native import Shared
from sectum.lab.learners.operator_learning import (
    LearnedOperators,
    Observation,
    fold_of,
    from_kind_campaign,
    from_operator_campaign,
    learn,
    without_kinds,
)
from sectum.lab.learners.operator_learning import observed as observed_in
from sectum.lab.learners.paging_learning import PageCostModel
from sectum.lab.learners.shipped import OperatorsAndPages
from sectum.lab.training.support import stored, write
from sectum.ort.cpu import Cpu
from sectum.ort.operators import KINDS
from sectum.predict.features import FEATURES, SCHEMA_VERSION, schema_hash
from sectum.predict.operator_model import PAGES, REGIMES, of_threads
from sectum.predict.paging_features import PAGING_FEATURES

FOLDS = 5


def accuracy(measured: NDArray[np.float64], predicted: NDArray[np.float64]) -> dict[str, float]:
    """Share within 5, 10 and 20 %, mean absolute percentage error, spread of the logarithm."""
    error = np.abs(predicted / measured - 1)
    return {
        "n": float(len(measured)),
        "within_5": float(np.mean(error <= 0.05)),
        "within_10": float(np.mean(error <= 0.10)),
        "within_20": float(np.mean(error <= 0.20)),
        "mape": float(np.mean(error)),
        "sigma": float(np.std(np.log(measured / predicted))),
    }


def cross_validate(
    seen: Sequence[Observation], fold_of_network: NDArray[np.int64], others: Sequence[Observation]
) -> NDArray[np.float64]:
    """Normalized latency of each network, predicted by models that saw none of its fold, and all of the others."""
    totals = np.zeros(len(seen))
    for fold in np.unique(fold_of_network):
        inside = fold_of_network == fold
        learned = learn([*others, *(one for one, out in zip(seen, inside, strict=True) if not out)])
        held_out = [one.features for one, out in zip(seen, inside, strict=True) if out]
        totals[inside] = [times.sum() for times in learned.normalized_times(held_out)]
    return totals


def figures(seen: Sequence[Observation]) -> dict[str, dict[str, float]]:
    """Accuracy on held-out networks, near relatives kept together; by origin and threads, and by family."""
    others = [one for one in seen if not one.total]
    seen = [one for one in seen if one.total]
    totals = np.array([one.total for one in seen])
    kinds = np.array([f"{'dataset' if one.whole else 'operator campaign'}, {one.threads} threads" for one in seen])
    predicted = cross_validate(seen, fold_of(seen, FOLDS), others)
    families = np.array([f"dataset, family {one.family}" if one.whole else "" for one in seen])
    named = [(marks, str(name)) for marks in (kinds, families) for name in np.unique(marks) if name]
    return {name: accuracy(totals[marks == name], predicted[marks == name]) for marks, name in named}


def export(learned: LearnedOperators, pages: PageCostModel, folder: Path) -> dict[str, dict[str, str]]:
    """Write one or two ONNX files per group, and one for pages; gives the file and SHA-256 of each."""
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    folder.mkdir(parents=True, exist_ok=True)
    entries = {}
    regressors = {
        **{group: (model, len(FEATURES)) for group, model in learned.groups.items()},
        **{of_threads(group): (model, len(FEATURES) + 1) for group, model in learned.threads.items()},
        PAGES: (pages.correction, len(PAGING_FEATURES)),
    }
    for name, (regressor, n_features) in regressors.items():
        columns = [("features", FloatTensorType([None, n_features]))]
        model = convert_lightgbm(regressor, initial_types=columns, target_opset=15)
        entries[name] = stored(folder / f"{name}.onnx", model.SerializeToString(deterministic=True))
    return entries


UNLIKE = frozenset({"quantized"})
"""Kinds whose ratio to that kernel differs between processors: what was measured elsewhere supports nothing."""


def train(
    data: Path,
    operators: Sequence[Path],
    out: Path,
    machine: str,
    name: str,
    kinds: Sequence[Path] = (),
    kinds_elsewhere: Sequence[Path] = (),
    elsewhere: str | None = None,
) -> dict[str, Any]:
    """Cross-validate, train on everything that one machine measured, write the artefact; gives the manifest.

    Args:
        data: a dataset.
        operators: operator campaigns of the same machine.
        kinds: campaigns of kinds of operators, of the same machine.
        kinds_elsewhere: of a machine with another kind of processor. Normalized, they stand in for what was not
            measured here; predictions say so.
        elsewhere: such a machine in the dataset. The operators of its networks that are no image classifiers stand in,
            too.
        out: folder of the artefact.
        machine: in words.
        name: of the machine in the dataset.

    Raises:
        UsageError: nothing was measured, or too little that pages, or no operator of some group.
        DatasetInvalid: the dataset is damaged.
    """
    every = without_repeats(read(data))
    networks = [one for one in every if one.machine == name]
    if not networks:
        raise UsageError(f"{data} holds no network of the machine '{name}': sectum dataset show names them")
    fitted = OperatorsAndPages("shipped", Shared()).fit(networks)
    pages, spread = fitted.costs.get(name), fitted.spread
    if (
        pages is None
        or pages.correction is None
        or fitted.errors is None
        or spread is None
        or len(fitted.widths) < len(REGIMES)
    ):
        raise UsageError(f"{data} holds too few networks of '{name}' that page and that do not: collect more")
    cpu = networks[0].cpu
    here = [*observed_in(networks), *(one for folder in operators for one in from_operator_campaign(folder, cpu))]
    here += [one for folder in kinds for one in from_kind_campaign(folder, cpu)]
    foreign = _standing_in([one for one in every if one.machine == elsewhere], kinds_elsewhere, cpu)
    seen = [*here, *foreign]
    learned = learn(seen)
    missing = [group for group in KINDS if group not in learned.groups]
    if missing:
        raise UsageError(f"no operator of group '{missing[0]}' was measured: collect more networks")
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "schema_sha256": schema_hash(),
        "machine": machine,
        "nchwc_block": cpu.nchwc_block,
        "reference_ms": networks[0].unit_ms,
        "most_threads": max(one.threads for one in seen),
        "spread": spread.as_dict(),
        "widths": dict(fitted.widths),
        "working_set_errors": fitted.errors.to_json(),
        "overheads": asdict(learned.overheads),
        "page_factors": dict(pages.factors),
        "linear": learned.linear.as_dict(),
        "groups": export(learned, pages, out),
        "support": write(out, [one.features for one in here], [without_kinds(one, UNLIKE).features for one in foreign]),
        "training": _training(seen, pages, networks[0].references.sums_ms, figures(seen)),
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def _standing_in(networks: Sequence[MeasuredNetwork], kinds: Sequence[Path], cpu: Cpu) -> list[Observation]:
    """What another kind of processor measured of operators whose kernels are alike on both."""
    families = zoo.program_families()
    others = [replace(one, cpu=cpu) for one in networks if one.family in families]
    found = [without_kinds(replace(one, total=0.0), LAYOUT_KINDS) for one in observed_in(others)]
    return [one for one in found if len(one.times)] + [one for folder in kinds for one in standing_in(folder, cpu)]


def _training(
    seen: Sequence[Observation], pages: PageCostModel, sums_ms: float, found: dict[str, Any]
) -> dict[str, Any]:
    groups = [group for one in seen for group in one.features.kinds]
    return {
        "networks": len({(one.family, one.topology) for one in seen}),
        "measurements": len(seen),
        "operators": len(groups),
        "operators_by_group": {group: groups.count(group) for group in KINDS},
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
    parser.add_argument("--kinds", type=Path, default=[], action="append", help="of a campaign of kinds of operators")
    parser.add_argument(
        "--kinds-elsewhere", type=Path, default=[], action="append", help="of another kind of processor"
    )
    parser.add_argument("--elsewhere", help="a machine in the dataset with another kind of processor")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--machine", required=True, help="the machine that the data come from, in words")
    parser.add_argument("--name", required=True, help="what the dataset calls it")
    options = parser.parse_args(arguments)
    manifest = train(
        options.data, options.operators, options.out, options.machine, options.name, options.kinds,
        options.kinds_elsewhere, options.elsewhere,
    )  # fmt: skip
    json.dump(manifest["training"], sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
