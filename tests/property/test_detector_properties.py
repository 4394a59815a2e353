"""The probability of over-commitment, whatever the errors that it was calibrated on."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sectum.predict.overcommit import ErrorDistribution

errors = st.lists(st.floats(-3, 3), min_size=20, max_size=60)
sizes = st.lists(st.floats(12, 30), min_size=2, max_size=20)


@given(errors, st.floats(1e-4, 2), st.floats(12, 30), sizes)
def test_a_larger_epc_never_pages_likelier(found, scale, log_bytes, log_epc):
    """The probability falls as the EPC grows, and is one, whatever the errors were."""
    said = ErrorDistribution.fit(found).probability(log_bytes - np.sort(log_epc), scale)
    assert (np.diff(said) <= 1e-12).all()
    assert ((said >= 0) & (said <= 1)).all()
