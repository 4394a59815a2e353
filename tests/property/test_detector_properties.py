"""What holds of the detector's probabilities whatever it learned."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sectum.lab.detector.judging import expected_calibration_error
from sectum.predict.overcommit import ErrorDistribution

errors = st.lists(st.floats(-3, 3), min_size=20, max_size=60)
sizes = st.lists(st.floats(12, 30), min_size=2, max_size=20)


@given(errors, st.floats(1e-4, 2), st.floats(12, 30), sizes)
def test_a_larger_epc_never_pages_likelier(found, scale, log_bytes, log_epc):
    """The probability falls as the EPC grows, and is one, whatever the errors were."""
    said = ErrorDistribution.fit(found).probability(log_bytes - np.sort(log_epc), scale)
    assert (np.diff(said) <= 1e-12).all()
    assert ((said >= 0) & (said <= 1)).all()


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=100), st.integers(1, 30))
def test_a_calibration_error_is_a_share(rows, bins):
    """It lies between 0 and 1."""
    said, happened = zip(*rows, strict=True)
    assert 0 <= expected_calibration_error(said, happened, bins) <= 1
