"""How far off predictions are, by what a network's time is made of."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_features import of_kinds
from sectum.ort.operators import KINDS
from sectum.predict.spread import LEAST, SHORT_MS, Spread, columns

SPREAD = Spread({kind: 0.02 * place for place, kind in enumerate(KINDS)}, 0.1, 0.07)


def test_columns_are_shares_of_the_time_and_how_short_it_is():
    """Three quarters of a time of three times `SHORT_MS` are of one kind: the column after the kinds is a quarter."""
    row = columns(of_kinds("conv", "gemm", "conv"), np.array([1.0, 0.75, 1.25]) * SHORT_MS)
    assert row[KINDS.index("conv")] == pytest.approx(0.75)
    assert row[KINDS.index("gemm")] == pytest.approx(0.25)
    assert row[:-2].sum() == pytest.approx(1)
    assert row[-2:] == pytest.approx([1 / 4, 0])


def test_several_threads_have_a_larger_spread():
    """What is added for more than one thread is the same whatever the network is made of."""
    for kind in KINDS:
        time_ms = np.array([5.0])
        one, two = (SPREAD.of(of_kinds(kind, threads=threads), time_ms) for threads in (1, 2))
        assert two == pytest.approx(max(LEAST, one) + SPREAD.threads)


def test_a_network_of_a_harder_kind_has_a_larger_spread():
    """The expected error goes from that of one kind to that of another with the time that is spent there."""
    long = 1e6 * SHORT_MS
    of = [SPREAD.of(of_kinds("gemm", "quantized"), np.array([1 - share, share]) * long) for share in (0, 0.25, 0.5, 1)]
    assert of == sorted(of)
    assert of[0] == pytest.approx(SPREAD.kinds["gemm"], rel=1e-3)
    assert of[1] == pytest.approx(0.75 * SPREAD.kinds["gemm"] + 0.25 * SPREAD.kinds["quantized"], rel=1e-3)
    assert of[3] == pytest.approx(SPREAD.kinds["quantized"], rel=1e-3)


@given(st.floats(1e-6, 1e4), st.floats(1.01, 100))
def test_short_inferences_have_a_larger_spread(time_ms: float, longer: float):
    """The same network in more time has a smaller expected error; at `SHORT_MS`, half of `short` is added."""
    assert SPREAD.of(of_kinds("gemm"), np.array([time_ms])) > SPREAD.of(of_kinds("gemm"), np.array([time_ms * longer]))
    at_short = SPREAD.of(of_kinds("gemm"), np.array([SHORT_MS]))
    assert at_short == pytest.approx(SPREAD.kinds["gemm"] + SPREAD.short / 2)


def test_no_prediction_is_without_an_error():
    """Whatever was learned, the expected error has a lower bound, and a network without any time has one, too."""
    assert Spread(dict.fromkeys(KINDS, 0.0), 0.0, 0.0).of(of_kinds("conv"), np.array([5.0])) == LEAST
    assert SPREAD.of(of_kinds(), np.array([])) == pytest.approx(SPREAD.short)


def test_a_spread_that_is_stored_is_read_back():
    """JSON gives back what it was given."""
    assert Spread.from_dict(json.loads(json.dumps(SPREAD.as_dict()))) == SPREAD


@pytest.mark.parametrize("value", [-0.01, math.inf, math.nan])
def test_an_error_that_is_no_size_is_refused(value: float):
    """A stored spread with a negative or an unbounded error, of a kind or of short inferences, is refused."""
    stored = SPREAD.as_dict()
    with pytest.raises(ValueError, match="no positive number"):
        Spread.from_dict({**stored, "kinds": stored["kinds"] | {"conv": value}})
    with pytest.raises(ValueError, match="no positive number"):
        Spread.from_dict({**stored, "short": value})


def test_a_kind_that_is_missing_is_refused():
    """A stored spread says something of every kind, and of short inferences."""
    stored = SPREAD.as_dict()
    with pytest.raises(KeyError, match="conv"):
        Spread.from_dict({**stored, "kinds": {kind: 0.1 for kind in KINDS if kind != "conv"}})
    with pytest.raises(KeyError, match="short"):
        Spread.from_dict({"kinds": stored["kinds"]})
