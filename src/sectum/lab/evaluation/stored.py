"""A whole evaluation: made by :func:`evaluate`, stored as JSON beside its dataset, with that dataset's digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from sectum import __version__
from sectum.errors import ArtefactInvalid, DatasetInvalid
from sectum.lab.dataset import dataset
from sectum.lab.evaluation.kept import KeptFolds
from sectum.lab.evaluation.prepare import prepare, usable_cpus
from sectum.lab.evaluation.registry import Entry
from sectum.lab.evaluation.running import predictions
from sectum.lab.evaluation.summary import summarise
from sectum.lab.learners.lone_operators import campaigns_digest, lone_operators
from sectum.lab.learners.measured import MeasuredNetwork, read
from sectum.lab.learners.splits import leave_family_out, random_folds, relatives
from sectum.measure.context import versions

FILE = "evaluation.json"
"""Lies beside the folder of the dataset: ``data/evaluation.json`` in the checkout."""
FORMAT = 1

_MAX_BYTES = 16 << 20
_LIBRARIES = ("numpy", "lightgbm", "torch")
_PREPARING, _SUMMARISING = 0.1, 0.02  # of the whole, for the progress bar

Progress = Callable[[str, float], None]


def dataset_digest(folder: Path) -> str:
    """SHA-256 of a dataset: of its shards' names, which hold the digests of their contents.

    Raises:
        DatasetInvalid: there is no shard.
    """
    return hashlib.sha256("\n".join(path.name for path in dataset.shards(folder)).encode()).hexdigest()


def evaluate(
    folder: Path,
    entries: Sequence[Entry],
    *,
    workers: int | None = None,
    progress: Progress = lambda _what, _share: None,
    keep: Path | None = None,
) -> dict[str, Any]:
    """Train every learner anew on every fold of a stored dataset, and judge what it predicts.

    Args:
        folder: of the dataset.
        entries: learners; those that lack a library are left out and named.
        workers: processes; as many as there are CPUs if not given.
        progress: called with what is done, and the share of all.
        keep: folder for the answers of each fold. An evaluation that was stopped goes on where it was; the caller
            removes the folder when the evaluation is stored.

    Raises:
        UsageError: pyarrow is not installed.
        DatasetInvalid: a shard is damaged, there is none, or there are too few networks for two sides of a split.
    """
    begin_s = monotonic()
    workers = workers or usable_cpus()
    networks = read(folder)
    splits = {"random": random_folds(networks), "leave_family_out": leave_family_out(networks)}
    for name, folds in splits.items():
        if len(folds) < 2:
            raise DatasetInvalid(
                f"{folder} cannot be split ({name.replace('_', ' ')}): its {len(networks)} measured networks are all "
                "relatives or of one family; collect more (sectum dataset collect)"
            )
    usable = [entry for entry in entries if entry.missing is None]
    left_out = [entry.missing for entry in entries if entry.missing is not None]
    if not usable:
        raise ArtefactInvalid("no learner can be evaluated: " + "; ".join(map(str, left_out)))
    prepare(networks, workers=workers, progress=lambda share: progress("page traces", _PREPARING * share))
    lone = lone_operators(folder, {network.machine: network.cpu for network in networks})
    kept = None if keep is None else KeptFolds(keep, _made_from(folder))
    between = 1 - _PREPARING - _SUMMARISING
    predicted = predictions(
        networks, usable, splits, lone=lone, workers=workers,
        progress=lambda what, share: progress(what, _PREPARING + between * share), kept=kept,
    )  # fmt: skip
    progress("figures", 1 - _SUMMARISING)
    summary = summarise(networks, usable, splits, predicted)
    return {
        "format": FORMAT,
        "version": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(monotonic() - begin_s),
        "workers": workers,
        "libraries": versions(*_LIBRARIES),
        "dataset": _described(folder, networks),
        "lone_operators": sum(len(one.times) for observations in lone.values() for one in observations),
        "left_out": left_out,
        **summary,
    }


def _made_from(folder: Path) -> str:
    """What the answers of a fold depend on beside the fold itself and the learners' names: data, code, libraries."""
    package = Path(__file__).parents[2]
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(package.rglob("*.py"))))
    return json.dumps([code.hexdigest(), dataset_digest(folder), campaigns_digest(folder), versions(*_LIBRARIES)])


def _described(folder: Path, networks: Sequence[MeasuredNetwork]) -> dict[str, Any]:
    first = [network for network in networks if not network.is_repeat]
    return {
        "digest": dataset_digest(folder),
        "shards": len(dataset.shards(folder)),
        "networks": len(first),
        "relatives": len(set(relatives(networks).tolist())),
        "rows": sum(len(network.runs) for network in first),
        "over_committed_rows": sum(run.over_committed for network in first for run in network.runs),
        "repeats": len(networks) - len(first),
        "machines": sorted({network.machine for network in networks}),
        "first_date": min(network.date for network in networks),
        "last_date": max(network.date for network in networks),
    }


def load(path: Path) -> dict[str, Any]:
    """Read a stored evaluation.

    Raises:
        ArtefactInvalid: there is none, or it is damaged or of another format.
    """
    remedy = "evaluate again: sectum evaluate --retrain"
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ArtefactInvalid(
            f"{path} is missing: it comes with the dataset in data/ of Sectum's checkout, not with the installed "
            f"package; give the dataset's folder there (--data), or {remedy}"
        ) from error
    except OSError as error:
        raise ArtefactInvalid(f"{path}: {error.strerror or error}; {remedy}") from error
    if len(content) > _MAX_BYTES:
        raise ArtefactInvalid(f"{path} is larger than any evaluation; {remedy}")
    try:
        stored = json.loads(content)
    except ValueError as error:
        raise ArtefactInvalid(f"{path} is not JSON ({error}); {remedy}") from error
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise ArtefactInvalid(f"{path} is of another format than {FORMAT}; {remedy}")
    needed = {"splits", "baselines", "label_noise", "dataset", "learner", "cases", "worst", "reasons"}
    missing = needed - stored.keys()
    if missing:
        raise ArtefactInvalid(f"{path} lacks '{min(missing)}'; {remedy}")
    return stored


def dumps(evaluation: dict[str, Any]) -> bytes:
    """An evaluation as it is stored; long lists on one line."""
    lines = [f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in evaluation.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()
