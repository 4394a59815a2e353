"""Stores which operators the shipped latency models were trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

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


def write(folder: Path, seen: Iterable[OperatorFeatures], elsewhere: Iterable[OperatorFeatures] = ()) -> dict[str, str]:
    """Write the file into an artefact's folder; gives what the manifest must say of it.

    Args:
        folder: of the artefact.
        seen: operators that were measured on its kind of processor.
        elsewhere: operators that were measured on another kind.
    """
    others = list(elsewhere)
    return stored(folder / FILE, encoded(cells_by_type(seen), cells_by_type(others) if others else {}))


def stored(path: Path, content: bytes) -> dict[str, str]:
    """Write a file of an artefact; gives what the manifest must say of it."""
    path.write_bytes(content)
    return {"file": path.name, "sha256": hashlib.sha256(content).hexdigest()}
