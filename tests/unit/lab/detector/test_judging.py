"""Figures of accuracy."""

from __future__ import annotations

import numpy as np
import pytest

from sectum.lab.detector.judging import Judged, expected_calibration_error, gather, reliability
from sectum.lab.detector.picture import draw


def test_sure_and_right_is_no_calibration_error():
    """Probabilities of 0 and 1 that come true have an error of 0."""
    assert expected_calibration_error([0.0, 1.0, 1.0], [False, True, True]) == 0


def test_sure_and_wrong_is_all_of_it():
    """Probabilities of 0 and 1 that never come true have an error of 1."""
    assert expected_calibration_error([0.0, 1.0], [True, False]) == 1


def test_bins_count_by_their_rows():
    """Three rows off by 0.2 and one off by 0.5 make (3 x 0.2 + 0.5) / 4."""
    said = [0.8, 0.8, 0.8, 0.5]
    assert expected_calibration_error(said, [1, 1, 1, 0]) == pytest.approx((3 * 0.2 + 0.5) / 4)


def test_too_much_and_too_little_in_one_bin_cancel():
    """Half of the rows of a bin coming true is right for a probability of a half."""
    assert expected_calibration_error([0.5, 0.5], [0, 1]) == 0


def test_a_probability_of_one_is_in_the_last_bin():
    """The ends of the range belong to the first and last bin."""
    assert [one.rows for one in reliability([0.0, 1.0, 0.99], [0, 1, 1], bins=10)] == [1, 2]


def judged(probabilities, over_committed, occupations):
    errors = np.log(np.array([0.98, 1.0, 1.05]))
    return Judged(
        np.array(probabilities), np.array(over_committed), np.array(occupations), errors, np.array([True, True, False])
    )


def test_precision_and_recall_are_of_the_over_committed():
    """Of three that were said to page two do; of four that do two were said to."""
    found = judged([0.9, 0.8, 0.7, 0.1, 0.2], [True, True, False, True, True], [2, 2, 0.5, 2, 2]).figures()
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == pytest.approx(2 / 4)
    assert found["f1"] == pytest.approx(4 / 7)
    assert found["working_set_median_error"] == pytest.approx(0.02)


def test_the_boundary_leaves_out_what_is_plain():
    """Rows whose working set is far from the EPC are not at the boundary."""
    near = judged([0.9, 0.5, 0.1], [True, True, False], [2.0, 1.1, 0.5]).boundary()
    assert near.probabilities.tolist() == [0.5]


def test_splits_are_judged_together():
    """Rows of several splits are counted as one set."""
    one = judged([0.9], [True], [2.0])
    assert gather([one, one]).figures()["rows"] == 2


@pytest.mark.slow
def test_a_picture_is_drawn(tmp_path):
    """The diagram is a PNG file, with one panel for each detector."""
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib: install sectum[learn]")
    rng = np.random.default_rng(0)
    said = rng.random(200)
    some = Judged(said, rng.random(200) < said, np.ones(200), np.zeros(100), np.ones(100, dtype=bool))
    draw({"one": some, "two": some}, tmp_path / "new" / "reliability.png", title="drawn at random")
    assert (tmp_path / "new" / "reliability.png").read_bytes().startswith(b"\x89PNG")
