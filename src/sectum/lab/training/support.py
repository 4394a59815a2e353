"""Stores which operators the shipped latency models were trained on; trains nothing.

``python -m sectum.lab.training.support --data data/networks --operators data/operators/epyc-zen4-vm --out \
src/sectum/predict/artefacts/operators/avx512 --name epyc-zen4-vm``
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from sectum.errors import UsageError
from sectum.lab.learners.measured import read, without_repeats
from sectum.lab.learners.operator_learning import from_operator_campaign
from sectum.predict.artefact import read_manifest
from sectum.predict.features import OperatorFeatures
from sectum.predict.support import FILE, Cells, cells_of, encoded, key


def cells_by_type(seen: Iterable[OperatorFeatures]) -> dict[str, Cells]:
    """The cells of all operators, by `sectum.predict.support.key`."""
    every = list(seen)
    kinds = np.array([kind for features in every for kind in features.kinds])
    types = np.array([operator_type for features in every for operator_type in features.types])
    values = np.concatenate([features.values for features in every])
    found = {}
    for operator_type, kind in sorted(set(zip(types.tolist(), kinds.tolist(), strict=True))):
        found[key(operator_type, kind)] = cells_of(kind, values[(types == operator_type) & (kinds == kind)])
    return found


def write(folder: Path, seen: Iterable[OperatorFeatures]) -> dict[str, str]:
    """Write the file into an artefact's folder; gives what the manifest must say of it."""
    content = encoded(cells_by_type(seen))
    (folder / FILE).write_bytes(content)
    return {"file": FILE, "sha256": hashlib.sha256(content).hexdigest()}


def features_of(data: Path, operators: Sequence[Path], name: str) -> list[OperatorFeatures]:
    """The operators that `sectum.lab.training.train` learns from.

    Args:
        data: a dataset.
        operators: operator campaigns of the same machine.
        name: of the machine in the dataset.

    Raises:
        UsageError: the dataset has no network of this machine.
        DatasetInvalid: the dataset is damaged.
    """
    networks = [one for one in without_repeats(read(data)) if one.machine == name]
    if not networks:
        raise UsageError(f"{data} holds no network of the machine '{name}': sectum dataset show names them")
    singles = (one for folder in operators for one in from_operator_campaign(folder, networks[0].cpu))
    timed = (one.features for one in networks if one.operator_ms is not None)
    return [*timed, *(one.features for one in singles)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the support of an artefact from the command line, and enter it in the artefact's manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a dataset: sectum dataset collect")
    parser.add_argument("--operators", type=Path, default=[], action="append", help="of an operator campaign")
    parser.add_argument("--out", type=Path, required=True, help="the artefact's folder")
    parser.add_argument("--name", required=True, help="what the dataset calls the machine")
    options = parser.parse_args(arguments)
    path = options.out / "manifest.json"
    manifest = read_manifest(path)
    manifest["support"] = write(options.out, features_of(options.data, options.operators, options.name))
    path.write_text(json.dumps(manifest, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
