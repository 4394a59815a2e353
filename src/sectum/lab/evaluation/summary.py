"""An evaluation as plain values: what ``sectum evaluate --json`` prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.lab.evaluation import diagnosis
from sectum.lab.evaluation.metrics import Figure, Judged, detector_figures, latency_figures
from sectum.lab.evaluation.registry import SHIPPED, Entry
from sectum.lab.evaluation.repeats import by_latency, label_noise
from sectum.lab.evaluation.running import Predictions
from sectum.lab.evaluation.spending import by_operator, by_threads
from sectum.lab.evaluation.truth import REGIMES, Truth, truth
from sectum.lab.learners.measured import MeasuredNetwork
from sectum.lab.learners.splits import Fold

SPLITS = ("random", "leave_family_out", "boundary")
"""The last has no folds of its own: its rows are those of the first at the boundary."""

_DIGITS = 4

Figures = dict[str, Any]


def summarise(
    networks: Sequence[MeasuredNetwork],
    entries: Sequence[Entry],
    splits: Mapping[str, Sequence[Fold]],
    predicted: Mapping[str, Mapping[str, Predictions]],
) -> dict[str, Any]:
    """Figures of all learners, the labels' noise, and the largest errors of the main learner.

    Args:
        networks: of the dataset, repeats among them.
        entries: learners in the order to be shown; the main learner is the shipped method, or the first where that
            was not evaluated.
        splits: their folds.
        predicted: by split and learner.
    """
    cases = truth(networks)
    names = [entry.name for entry in entries]
    main = SHIPPED if SHIPPED in names else names[0]
    by_learner: dict[str, Figures] = {
        entry.name: {
            "title": entry.title,
            "kind": entry.intended,
            "splits": {
                split: split_figures(cases, predicted[_source(split)][entry.name], split, detailed=entry.name == main)
                for split in SPLITS
            },
        }
        for entry in entries
    }
    of_main = predicted["random"][main]
    found = diagnosis.reasons(networks, cases, of_main)
    return {
        "learner": main,
        "splits": by_learner[main]["splits"],
        "label_noise": label_noise(networks, cases),
        "by_latency": by_latency(networks, cases, of_main.latency_ms),
        "by_operator": _parts(cases, of_main, by_operator(networks, cases)),
        "by_threads": _parts(cases, of_main, by_threads(networks, cases)),
        "baselines": {
            name: {**_flat(learner["splits"]["random"]), **learner}
            for name, learner in by_learner.items()
            if name != main
        },
        "folds": {name: len(folds) for name, folds in splits.items()},
        "reasons": diagnosis.reason_counts(cases, found),
        "worst": diagnosis.worst(networks, cases, of_main, found),
        "cases": _points(cases, of_main),
    }


def _source(split: str) -> str:
    return "random" if split == "boundary" else split


def split_figures(cases: Truth, predicted: Predictions, split: str, *, detailed: bool) -> Figures:
    """Figures of a split over its rows in the enclave; native latencies count as a regime only.

    Args:
        cases: what was measured.
        predicted: for the same cases; NaN where a case is not of this split.
        split: one of `SPLITS`.
        detailed: whether figures by family have intervals.
    """
    mask = ~np.isnan(predicted.latency_ms)
    if split == "boundary":
        mask &= cases.boundary
    inside = mask & cases.in_enclave
    judged = _judged(cases, predicted)
    of_split = _figures(judged.chosen(inside))
    of_split["regimes"] = {
        name: _figures(judged.chosen(mask & (cases.regime == number)), detector=False)
        for number, name in enumerate(REGIMES)
        if split != "boundary" or name != "native"
    }
    of_split["families"] = {
        name: _figures(judged.chosen(inside & (cases.family == name)), intervals=detailed)
        for name in sorted(set(cases.family.tolist()))
    }
    return of_split


def _parts(cases: Truth, predicted: Predictions, masks: Mapping[str, NDArray[np.bool_]]) -> dict[str, Figures]:
    """Figures of some cases, native ones among them; those that were not predicted are left out."""
    judged, there = _judged(cases, predicted), ~np.isnan(predicted.latency_ms)
    return {name: _figures(judged.chosen(mask & there), detector=False) for name, mask in masks.items()}


def _judged(cases: Truth, predicted: Predictions) -> Judged:
    return Judged(
        cases.measured_ms, predicted.latency_ms, predicted.low_ms, predicted.high_ms,
        cases.over_committed, predicted.probability, cases.group,
    )  # fmt: skip


def _figures(rows: Judged, *, detector: bool = True, intervals: bool = True) -> Figures:
    figures: dict[str, Figure] = latency_figures(rows)
    if detector:
        figures |= detector_figures(rows)
    found: Figures = {"n": len(rows)} | {name: _rounded(figure.value) for name, figure in figures.items()}
    if intervals:
        found["intervals"] = {
            name: [_rounded(figure.low), _rounded(figure.high)]
            for name, figure in figures.items()
            if not math.isnan(figure.value)
        }
    return found


def _flat(figures: Figures) -> Figures:
    """The figures themselves, without those of parts."""
    return {name: value for name, value in figures.items() if name not in ("regimes", "families")}


def _rounded(value: float) -> float | None:
    return round(value, _DIGITS) if math.isfinite(value) else None


def _points(cases: Truth, predicted: Predictions) -> dict[str, list[Any]]:
    """The random split's cases, for pictures: four digits are more than any picture shows."""
    kept = ~np.isnan(predicted.latency_ms)
    return {
        "regime": cases.regime[kept].tolist(),
        "epc_ratio": _shortened(cases.epc_ratio[kept]),
        "measured_ms": _shortened(cases.measured_ms[kept]),
        "predicted_ms": _shortened(predicted.latency_ms[kept]),
    }


def _shortened(values: NDArray[np.float64]) -> list[float]:
    return [float(f"{value:.4g}") for value in values.tolist()]
