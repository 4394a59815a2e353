"""Answers of folds that are done, kept in files, so that a long evaluation goes on where it was stopped."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.lab.learners.splits import Fold

Answers = dict[str, NDArray[np.float64]]
"""By learner: columns latency, low, high, probability; shape ``(cases of the fold, 4)``."""


@dataclass(frozen=True)
class KeptFolds:
    """A folder with one file for each fold that is done.

    Attributes:
        folder: made when the first fold is kept.
        made_from: what all answers depend on beside the fold: dataset, version, learners.
    """

    folder: Path
    made_from: str

    def get(self, split: str, fold: Fold, names: tuple[str, ...]) -> Answers | None:
        """Answers of a fold; None where there are none of this evaluation, or where the file is damaged."""
        try:
            with self._file(split, fold).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return {name: np.asarray(stored[name], dtype=np.float64) for name in names}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def put(self, split: str, fold: Fold, answers: Answers) -> None:
        """Keep the answers of a fold.

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._file(split, fold)
        partial = path.with_suffix(".part.npz")
        arrays: dict[str, Any] = dict(answers)
        np.savez(partial, **arrays)
        partial.replace(path)

    def _file(self, split: str, fold: Fold) -> Path:
        text = json.dumps([self.made_from, split, fold.name, fold.train, fold.test])
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"
