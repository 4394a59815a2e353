"""Trains each learner on each fold, and collects its predictions of the held-out networks."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sectum.lab.evaluation.kept import Answers, KeptFolds
from sectum.lab.evaluation.prepare import each
from sectum.lab.evaluation.registry import Entry
from sectum.lab.evaluation.truth import Truth, run_of, truth
from sectum.lab.learners.learner import LatencyCase, LatencyEstimate
from sectum.lab.learners.lone_operators import LoneOperators
from sectum.lab.learners.measured import MeasuredNetwork, known
from sectum.lab.learners.native import Shared
from sectum.lab.learners.splits import Fold

Floats = NDArray[np.float64]
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Predictions:
    """One learner's answers over one split, in the order of `Truth`; all arrays have shape ``(cases,)``.

    Attributes:
        latency_ms: NaN for cases that no fold predicts.
        low_ms: lower end of the interval; NaN where there is none.
        high_ms: its upper end.
        probability: of over-commitment; NaN where there is none.
    """

    latency_ms: Floats
    low_ms: Floats
    high_ms: Floats
    probability: Floats


_process: tuple[Sequence[MeasuredNetwork], Sequence[Entry], LoneOperators | None, Truth] | None = None
"""What this process works on: networks, learners, lone operators, and the cases of the networks."""


def _start(
    networks: Sequence[MeasuredNetwork], entries: Sequence[Entry], lone: LoneOperators | None, threads: str | None
) -> None:
    global _process
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = threads
    _process = networks, entries, lone, truth(networks)


def _answers(fold: Fold) -> Answers:
    assert _process is not None
    networks, entries, lone, known_cases = _process
    shared = Shared(lone)
    learned_from = [networks[index] for index in fold.train]
    cases = blind_cases(networks, known_cases, np.flatnonzero(np.isin(known_cases.network, fold.test)))
    estimates = {entry.name: entry.make(shared).fit(learned_from).predict(cases) for entry in entries}
    return {name: _columns(name, its, len(cases)) for name, its in estimates.items()}


def blind_cases(networks: Sequence[MeasuredNetwork], cases: Truth, lines: NDArray[np.int64]) -> list[LatencyCase]:
    """The cases of some lines, without any measurement."""
    views = {index: known(networks[index]) for index in sorted(set(cases.network[lines].tolist()))}
    pairs = zip(cases.network[lines].tolist(), cases.run[lines].tolist(), strict=True)
    return [LatencyCase(views[index], run_of(networks, index, run).epc_pages) for index, run in pairs]


def predictions(
    networks: Sequence[MeasuredNetwork],
    entries: Sequence[Entry],
    splits: Mapping[str, Sequence[Fold]],
    *,
    lone: LoneOperators | None = None,
    workers: int = 1,
    progress: Progress = lambda _what, _share: None,
    kept: KeptFolds | None = None,
) -> dict[str, dict[str, Predictions]]:
    """By split and learner.

    Args:
        networks: prepared, so that no process computes features anew; see `prepare`.
        entries: learners that can be used here.
        splits: folds of each.
        lone: operators that learners of operator times learn from beside the networks of a fold.
        workers: processes, each of which trains all learners of a fold.
        progress: called with the fold that is done, and the share of all.
        kept: folds that were done before; those that are done now are added.
    """
    cases = truth(networks)
    work = [(split, fold) for split, folds in splits.items() for fold in folds]
    names = tuple(entry.name for entry in entries)
    done = [kept.get(split, fold, names) if kept else None for split, fold in work]
    tables = {split: {entry.name: np.full((len(cases), 4), math.nan) for entry in entries} for split in splits}
    threads = "1" if workers > 1 else None
    found = each(
        _answers,
        [fold for (_, fold), answers in zip(work, done, strict=True) if answers is None],
        workers=workers,
        start=_start,
        arguments=(networks, entries, lone, threads),
    )
    with closing(found):
        for number, ((split, fold), old) in enumerate(zip(work, done, strict=True)):
            answers = old or next(found)
            if kept and not old:
                kept.put(split, fold, answers)
            lines = np.isin(cases.network, fold.test)
            for name, columns in answers.items():
                tables[split][name][lines] = columns
            progress(f"{split.replace('_', ' ')}: {fold.name}", (number + 1) / len(work))
    return {
        split: {name: Predictions(*table.T) for name, table in by_name.items()} for split, by_name in tables.items()
    }


def _columns(name: str, estimates: Sequence[LatencyEstimate], n_cases: int) -> Floats:
    if len(estimates) != n_cases:
        raise AssertionError(f"{name} answered {len(estimates)} of {n_cases} cases")
    rows = [
        (
            one.latency_ms,
            *(one.interval_ms or (math.nan, math.nan)),
            math.nan if one.over_commitment is None else one.over_commitment,
        )
        for one in estimates
    ]
    columns = np.array(rows, dtype=np.float64).reshape(-1, 4)
    if not (np.isfinite(columns[:, 0]).all() and (columns[:, 0] > 0).all()):
        raise AssertionError(f"{name} predicted a latency that is no positive number")
    return columns
