"""How far outputs of a plan are from those of its network."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from sectum.cli.plan.once import difference

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("without", "found", "largest"),
    [
        ([1.0, -2.0], [1.0, -2.0], 0.0),
        ([1.0, -2.0], [1.5, -2.0], 0.5),
        ([INF, NAN, -INF], [INF, NAN, -INF], 0.0),
        ([1.0, NAN], [3.0, NAN], 2.0),
        ([1.0], [NAN], INF),
        ([NAN], [1.0], INF),
        ([1.0], [INF], INF),
        ([INF], [-INF], INF),
        ([1.0, 2.0], [1.0], INF),
        ([], [], 0.0),
        ([True, False], [True, True], 1.0),
    ],
)
def test_the_largest_difference_counts_shapes_and_values_that_are_not_finite(
    without: list, found: list, largest: float
) -> None:
    """Equal values, infinite ones and NaN included, do not differ; other shapes, or one NaN, differ infinitely."""
    off = difference({"y": np.array(found)}, {"y": np.array(without)})
    assert off.largest == largest
    assert json.loads(json.dumps(off.in_json, allow_nan=False)) >= min(largest, 1e308)


def test_the_output_that_differs_most_counts() -> None:
    """Of several outputs, the largest difference is told with the largest value of that output."""
    expected = {"a": np.array([10.0, 1.0]), "b": np.array([2.0])}
    off = difference({"a": np.array([10.0, 1.5]), "b": np.array([5.0])}, expected)
    assert (off.largest, off.of) == (3.0, 2.0)
