"""Why a prediction is off is told by the part that errs most, not by its author."""

from __future__ import annotations

import math

import numpy as np
import pytest

from measured_networks import made_up, made_up_run
from sectum.lab.evaluation import diagnosis
from sectum.lab.evaluation.running import Predictions
from sectum.lab.evaluation.truth import truth
from sectum.units import MIB

NATIVE = made_up_run(None, 10.0)


def why(run, predicted_ms, *, predicted_native_ms=10.0, said=None, loads=0.0) -> str:
    return diagnosis.reason(run, NATIVE, predicted_ms, predicted_native_ms, said_to_page=said, modelled_loads=loads)


def paging(latency_ms=110.0, **changes):
    return made_up_run(5 * MIB, latency_ms, over_committed=True, loads=1000.0, **changes)


def test_an_uncertain_label_is_blamed_first():
    """A label that may itself be 10 % off explains an error of 15 %."""
    assert why(paging(uncertainty=0.1), 125.0, said=False) == diagnosis.LABEL
    assert why(paging(uncertainty=math.inf), 500.0) == diagnosis.LABEL


def test_a_wrong_verdict_explains_what_follows_from_it():
    """Said to page and does not: nothing else is looked at."""
    assert why(made_up_run(20 * MIB, 11.0), 400.0, predicted_native_ms=20, said=True) == diagnosis.REGIME


def test_natively_only_the_native_part_can_be_off():
    """Outside enclaves there is no other part."""
    assert why(NATIVE, 15.0, predicted_native_ms=15.0) == diagnosis.NATIVE


def test_the_larger_part_of_the_error_is_blamed():
    """60 of 80 ms of the error are the native part's: not paging is off."""
    assert why(paging(), 190.0, predicted_native_ms=70.0, said=True, loads=1000.0) == diagnosis.NATIVE


def test_faults_are_told_from_their_cost():
    """With twice the loads twice the paging time is the faults' error; with the right loads it is the cost's."""
    assert why(paging(), 210.0, said=True, loads=2000.0) == diagnosis.FAULTS
    assert why(paging(), 210.0, said=True, loads=1000.0) == diagnosis.PAGE_COST


def predictions_of(latencies) -> Predictions:
    nothing = np.full(len(latencies), math.nan)
    return Predictions(np.array(latencies, dtype=float), nothing, nothing, nothing)


@pytest.fixture
def two():
    """Two networks with two sizes of EPC each: six cases, of 10, 11 and 50 ms."""
    return [made_up(0), made_up(1)]


def test_only_what_is_more_than_ten_percent_off_needs_a_reason(two):
    """Nine percent is no error to explain, eleven is."""
    cases = truth(two)
    found = diagnosis.reasons(two, cases, predictions_of([10.9, 11.0, 50.0, 11.1, 11.0, 50.0]))
    assert found == {3: diagnosis.NATIVE}
    assert diagnosis.reason_counts(cases, found)["native"][diagnosis.NATIVE] == 1


def test_the_worst_are_listed_by_ratio_and_network(two):
    """A tenth of the latency is worse than five times it, and each network is listed once."""
    cases = truth(two)
    predicted = predictions_of([50.0, 50.0, 50.0, 1.0, 11.0, 50.0])
    listed = diagnosis.worst(two, cases, predicted, diagnosis.reasons(two, cases, predicted))
    assert [one["network"] for one in listed] == ["alexnet/1/b1", "alexnet/0/b1"]
    assert listed[0]["predicted_ms"] == 1.0
