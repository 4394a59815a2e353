"""Figures of accuracy are what their names say, and their intervals come from relatives, not rows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sectum.lab.evaluation.metrics import Judged, detector_figures, latency_figures

NAN = math.nan


def judged(measured, predicted, *, low=None, high=None, over=None, probability=None, group=None) -> Judged:
    n = len(measured)
    return Judged(
        np.array(measured, dtype=float),
        np.array(predicted, dtype=float),
        np.array(low if low is not None else [NAN] * n, dtype=float),
        np.array(high if high is not None else [NAN] * n, dtype=float),
        np.array(over if over is not None else [False] * n, dtype=bool),
        np.array(probability if probability is not None else [NAN] * n, dtype=float),
        np.array(group if group is not None else range(n), dtype=np.int64),
    )


def test_latency_figures_by_hand():
    """Errors of 4, 3, 8 and 20 % give the figures that paper and pencil give."""
    figures = latency_figures(judged([100, 100, 100, 100], [104, 97, 92, 120]))
    assert figures["within_5"].value == 0.5
    assert figures["within_10"].value == 0.75
    assert figures["mape"].value == pytest.approx((0.04 + 0.03 + 0.08 + 0.20) / 4)
    assert figures["rmspe"].value == pytest.approx(math.sqrt((0.0016 + 0.0009 + 0.0064 + 0.04) / 4))


def test_coverage_counts_rows_that_have_an_interval_only():
    """A learner that gives an interval for two rows of three is judged by these two."""
    figures = latency_figures(judged([10, 10, 10], [10, 10, 10], low=[9, 11, NAN], high=[11, 12, NAN]))
    assert figures["coverage"].value == 0.5


def test_coverage_of_no_intervals_is_not_a_number():
    """Where nothing is claimed, no figure pretends that it was kept."""
    assert math.isnan(latency_figures(judged([10], [10]))["coverage"].value)


def test_detector_figures_by_hand():
    """Two hits, one false alarm, one miss, one right rejection: precision and recall are two thirds."""
    rows = judged([1] * 5, [1] * 5, over=[True, True, False, True, False], probability=[0.9, 0.5, 0.7, 0.1, 0.0])
    figures = detector_figures(rows)
    assert figures["detector_precision"].value == pytest.approx(2 / 3)
    assert figures["detector_recall"].value == pytest.approx(2 / 3)
    assert figures["detector_f1"].value == pytest.approx(2 / 3)


def test_calibration_error_by_hand():
    """Said 0.8 twice with one of two true, and 0.0 twice with none: (|1.6 - 1| + 0) / 4."""
    figures = detector_figures(judged([1] * 4, [1] * 4, over=[True, False, False, False], probability=[0.8, 0.8, 0, 0]))
    assert figures["detector_ece"].value == pytest.approx(0.15)


def test_certainty_belongs_to_the_last_bin():
    """A probability of exactly 1 has a bin."""
    assert detector_figures(judged([1, 1], [1, 1], over=[True, True], probability=[1, 1]))["detector_ece"].value == 0


def test_a_detector_without_positives_has_no_recall():
    """A figure that would divide by nothing is not a number, and hides no row."""
    figures = detector_figures(judged([1, 1], [1, 1], probability=[0.1, 0.2]))
    assert math.isnan(figures["detector_recall"].value)
    assert figures["detector_ece"].value == pytest.approx(0.15)


def test_the_same_rows_give_the_same_intervals():
    """The bootstrap draws with a fixed seed."""
    rng = np.random.default_rng(1)
    rows = judged(np.full(40, 10.0), 10 * rng.uniform(0.8, 1.2, 40))
    assert repr(latency_figures(rows)) == repr(latency_figures(rows))
    assert latency_figures(rows, seed=1)["mape"] != latency_figures(rows, seed=2)["mape"]


def test_relatives_are_drawn_together():
    """Copies of a row in one group make no interval narrower; as groups of their own they would."""
    rng = np.random.default_rng(2)
    errors = 10 * rng.uniform(0.8, 1.2, 30)
    alone = latency_figures(judged(np.full(30, 10.0), errors))["mape"]
    together = latency_figures(judged(np.full(300, 10.0), np.tile(errors, 10), group=np.tile(range(30), 10)))["mape"]
    apart = latency_figures(judged(np.full(300, 10.0), np.tile(errors, 10)))["mape"]
    assert together.high - together.low == pytest.approx(alone.high - alone.low)
    assert apart.high - apart.low < 0.6 * (alone.high - alone.low)


def test_one_group_has_no_interval():
    """Relatives alone do not say how much networks differ."""
    figure = latency_figures(judged([10, 10], [10, 12], group=[7, 7]))["mape"]
    assert figure.value == pytest.approx(0.1)
    assert math.isnan(figure.low)


def test_no_rows_give_no_figures():
    """An empty part of a split is told as such, not as perfect."""
    assert math.isnan(latency_figures(judged([], []))["within_10"].value)
