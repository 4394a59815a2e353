"""Probabilities from errors."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from sectum.errors import ArtefactInvalid, UsageError
from sectum.predict.overcommit import FEWEST, ErrorDistribution


def test_too_few_networks_calibrate_nothing():
    """Probabilities from a handful of errors are refused."""
    with pytest.raises(UsageError, match="19 validation networks"):
        ErrorDistribution.fit(np.zeros(FEWEST - 1))


def test_far_from_the_epc_there_is_no_doubt():
    """A working set of half or twice the EPC pages with a probability near 0 or 1."""
    fitted = ErrorDistribution.fit(np.random.default_rng(0).normal(0, 0.02, 200))
    small, large = fitted.probability([math.log(0.5), math.log(2)], [1.0, 1.0])
    assert small < 0.001
    assert large > 0.999


def test_a_bias_of_the_estimates_is_taken_out():
    """Estimates that are always a tenth too low are even chances where they are a tenth below the EPC."""
    fitted = ErrorDistribution.fit(0.1 + np.random.default_rng(1).normal(0, 0.01, 400))
    assert fitted.probability(-0.1, 1.0) == pytest.approx(0.5, abs=0.1)
    assert fitted.factor(np.array(1.0)) == pytest.approx(math.exp(0.1), rel=0.01)


def test_probabilities_mean_what_they_say():
    """Probabilities are calibrated on errors that were not fitted, whatever the shape of their distribution."""
    rng = np.random.default_rng(2)
    errors = np.where(rng.random(4000) < 0.1, rng.exponential(0.1, 4000), rng.normal(-0.01, 0.01, 4000))
    fitted = ErrorDistribution.fit(errors[:2000])
    log_ratio = rng.uniform(-0.2, 0.2, 2000)
    said = fitted.probability(log_ratio, np.ones(2000))
    happened = log_ratio + errors[2000:] > 0
    tenths = (10 * said).astype(int)
    apart = [abs((said - happened)[tenths == tenth].sum()) for tenth in range(11)]
    assert sum(apart) / len(said) < 0.02


def test_what_is_stored_says_the_same():
    """Probabilities survive JSON."""
    fitted = ErrorDistribution.fit(np.random.default_rng(3).normal(0, 0.03, 1000))
    restored = ErrorDistribution.from_json(json.loads(json.dumps(fitted.to_json())))
    at = np.linspace(-0.2, 0.2, 50)
    assert np.allclose(restored.probability(at, 1.0), fitted.probability(at, 1.0), atol=1e-3)


@pytest.mark.parametrize(
    "damage",
    [
        {"errors": []},
        {"errors": "0.1"},
        {"errors": [float("nan")]},
        {"errors": None},
        {"seen": 0},
        {"bandwidth": 0.0},
        {"bandwidth": float("inf")},
        {"bandwidth": "wide"},
    ],
)
def test_a_damaged_calibration_is_refused(damage):
    """Values that no fit gives are an error, not a probability."""
    stored = ErrorDistribution.fit(np.linspace(-1, 1, 30)).to_json()
    with pytest.raises(ArtefactInvalid, match="calibration"):
        ErrorDistribution.from_json(stored | damage)
