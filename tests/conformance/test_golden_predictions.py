"""Predictions are those that were recorded: a change of code that is to change no number changes none."""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Any

import pytest

from golden_predictions import NETWORKS, load, predictions

pytestmark = pytest.mark.slow

RELATIVE = 1e-6
"""Another CPU may round in another order."""


@cache
def recorded() -> dict[str, dict[str, Any]]:
    return load()


def differences(made: Any, expected: Any, path: str = "") -> list[str]:
    """Where two JSON values differ, by more than rounding for numbers."""
    if isinstance(expected, dict):
        if set(made) != set(expected):
            return [f"{path}: {sorted(made)} instead of {sorted(expected)}"]
        return [line for key in expected for line in differences(made[key], expected[key], f"{path}/{key}")]
    if isinstance(expected, list):
        if len(made) != len(expected):
            return [f"{path}: {len(made)} entries instead of {len(expected)}"]
        return [
            line
            for i, pair in enumerate(zip(made, expected, strict=True))
            for line in differences(*pair, f"{path}/{i}")
        ]
    if isinstance(expected, float):
        close = math.isclose(made, expected, rel_tol=RELATIVE, abs_tol=1e-12)
        return [] if close else [f"{path}: {made}, not {expected}"]
    return [] if made == expected else [f"{path}: {made!r} instead of {expected!r}"]


def test_every_network_was_recorded() -> None:
    """A network that joins the zoo joins the recorded predictions."""
    assert sorted(recorded()) == sorted(NETWORKS)


@pytest.mark.parametrize("network", NETWORKS)
def test_predictions_are_those_recorded(network: str) -> None:
    """Every number of every layer, for both layouts, one and two threads, and three sizes of EPC."""
    made = json.loads(json.dumps(predictions(network)))
    assert differences(made, recorded()[network]) == []
