"""What a second measurement says of labels, and of predictions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from measured_networks import made_up, made_up_run
from sectum.lab.evaluation.repeats import by_latency, label_noise, later_latencies
from sectum.lab.evaluation.truth import truth
from sectum.units import MIB, PAGE_BYTES

AGAIN = "alexnet/0/b1#1"


@pytest.fixture
def two():
    """Two networks with two sizes of EPC each: six cases, of 10, 11 and 50 ms."""
    return [made_up(0), made_up(1)]


def again(native_ms=10.0, roomy_ms=11.0, small_ms=50.0, more_bytes=0, **changes):
    """The first of them measured again, in the larger EPC with ``more_bytes``."""
    runs = made_up_run(20 * MIB + more_bytes, roomy_ms), made_up_run(5 * MIB, small_ms, over_committed=True)
    return made_up(0, key=AGAIN, native=made_up_run(None, native_ms), runs=runs, **changes)


def test_latencies_are_paired_with_those_of_the_same_place(two):
    """The second measurement's EPC may differ by one batch of the pager, not by more."""
    networks = [*two, again(10.5, 12.0, 70.0, 16 * PAGE_BYTES)]
    np.testing.assert_array_equal(later_latencies(networks, truth(networks)), [10.5, 12, 70, *[math.nan] * 3])
    networks = [*two, again(10.5, 12.0, 70.0, 17 * PAGE_BYTES)]
    np.testing.assert_array_equal(later_latencies(networks, truth(networks))[:3], [10.5, math.nan, 70])


def test_of_several_repeats_the_first_counts(two):
    """A third measurement changes no pair."""
    third = made_up(0, key="alexnet/0/b1#2", native=made_up_run(None, 99.0))
    networks = [*two, again(10.5), third]
    assert later_latencies(networks, truth(networks))[0] == 10.5


def test_measurements_of_another_machine_are_no_repeats(two):
    """Two machines differ by more than noise."""
    networks = [*two, again(machine="there")]
    assert np.isnan(later_latencies(networks, truth(networks))).all()


def test_label_noise_by_hand(two):
    """4 % apart in the larger EPC, 20 % in the smaller: half within 5 %, half within 10 %."""
    networks = [*two, again(10.0, 11.44, 60.0)]
    noise = label_noise(networks, truth(networks))
    assert noise is not None
    assert (noise["n"], noise["within_5"], noise["within_10"], noise["mape"]) == (2, 0.5, 0.5, 0.12)
    assert noise["regimes"]["native"]["within_5"] == 1


def test_without_repeats_label_noise_is_not_known(two):
    """Nothing measured twice is no perfect label."""
    assert label_noise(two, truth(two)) is None


def test_a_prediction_between_two_labels_is_near_to_their_mean(two):
    """Labels of 10 and 12.1 ms: 11 is neither within 5 % of the first nor is the second, but it is their mean."""
    networks = [*two, again(12.1)]
    told = by_latency(networks, truth(networks), np.array([11.0, 11.0, 50.0, 10.0, 11.0, 50.0]))
    assert [(one["from_ms"], one["below_ms"], one["n"]) for one in told if one["n"]] == [
        (10, 20, 4), (50, None, 2), (0, None, 6),
    ]  # fmt: skip
    twice = told[4]["twice"]
    assert twice["n"] == 2
    assert twice["labels"]["within_10"] == twice["first"]["within_5"] == 0.5
    assert twice["mean"]["within_5"] == 1
    assert told[0]["twice"]["labels"]["within_10"] is None


def test_what_was_not_predicted_counts_in_no_range(two):
    """A learner that was not asked has no figures."""
    assert [one["n"] for one in by_latency(two, truth(two), np.full(6, math.nan))] == [0] * 8
