"""Folds of an evaluation that are done are kept, and are not done again."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

from sectum.lab.evaluation.kept import KeptFolds
from sectum.lab.learners.splits import Fold

FOLD = Fold("fold 1", (0, 1, 2), (3,))
ANSWERS = {"page-model": np.arange(8.0).reshape(2, 4), "paper": np.full((2, 4), np.nan)}
NAMES = tuple(ANSWERS)


def test_answers_come_back_as_they_were(tmp_path):
    """Numbers are equal to the bit, NaN included, also in another process of the same evaluation."""
    KeptFolds(tmp_path / "folds", "now").put("random", FOLD, ANSWERS)
    found = KeptFolds(tmp_path / "folds", "now").get("random", FOLD, NAMES)
    assert found is not None
    assert set(found) == set(NAMES)
    for name in NAMES:
        np.testing.assert_array_equal(found[name], ANSWERS[name])


@pytest.mark.parametrize(
    ("made_from", "split", "fold", "names"),
    [
        ("other data", "random", FOLD, NAMES),
        ("now", "leave_family_out", FOLD, NAMES),
        ("now", "random", Fold("fold 1", (0, 1), (3,)), NAMES),
        ("now", "random", FOLD, (*NAMES, "three-constants")),
    ],
)
def test_answers_to_another_question_are_not_taken(tmp_path, made_from, split, fold, names):
    """What was learned from other data or networks, or by fewer learners, is done again."""
    KeptFolds(tmp_path, "now").put("random", FOLD, ANSWERS)
    assert KeptFolds(tmp_path, made_from).get(split, fold, names) is None


@pytest.mark.parametrize("left", [0, 1, 100, -1])
def test_a_damaged_file_is_done_again(tmp_path, left):
    """A file that was cut anywhere counts as missing."""
    kept = KeptFolds(tmp_path, "now")
    kept.put("random", FOLD, ANSWERS)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:left])
    assert kept.get("random", FOLD, NAMES) is None


@pytest.mark.slow
def test_an_evaluation_goes_on_where_it_was_stopped(tmp_path):
    """After a stop in the third fold two are not learned again, and the answers are those without a stop."""
    pytest.importorskip("pyarrow", reason="shards are Parquet: install sectum[train]")
    from measured_networks import DATASET
    from sectum.lab.evaluation.registry import Entry
    from sectum.lab.evaluation.running import predictions
    from sectum.lab.learners.measured import read
    from sectum.lab.learners.splits import random_folds
    from sectum.lab.learners.three_constants import ThreeConstants

    first = sorted(DATASET.glob("*.parquet"))[0]
    shutil.copy(first, tmp_path / first.name)
    networks = read(tmp_path)[:20]
    folds = {"random": random_folds(networks)}
    learned: list[int] = []

    class Stopping(ThreeConstants):
        def fit(self, networks: Any) -> Any:
            if len(learned) == stop_after:
                raise KeyboardInterrupt
            learned.append(len(networks))
            return super().fit(networks)

    entries = [Entry("three-constants", "", lambda _shared: Stopping())]
    kept, stop_after = KeptFolds(tmp_path / "folds", "now"), 2
    with pytest.raises(KeyboardInterrupt):
        predictions(networks, entries, folds, kept=kept)
    learned.clear()
    stop_after = -1
    continued = predictions(networks, entries, folds, kept=kept)["random"]["three-constants"]
    assert len(learned) == len(folds["random"]) - 2
    whole = predictions(networks, entries, folds)["random"]["three-constants"]
    np.testing.assert_array_equal(continued.latency_ms, whole.latency_ms)
