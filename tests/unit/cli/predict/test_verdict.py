"""The verdict on a prediction."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sectum.cli.predict.predicting import Request, predict
from sectum.cli.predict.verdict import verdict
from sectum.predict.prediction import GUESS, Grade, Interval, Overcommit
from sectum.units import MIB


@pytest.fixture(scope="module")
def paging():
    """The prediction of a network that does not fit."""
    request = Request(
        model="zoo:squeezenet1_1",
        enclave="softepc",
        epc_bytes=2 * MIB,
    )
    return predict(request).prediction


def test_a_network_that_does_not_fit_is_called_so_with_its_slowdown(paging):
    """The verdict gives the EPC and the share of paging in the latency."""
    sentence = verdict(paging)
    assert sentence.startswith("squeezenet1_1 does not fit: ")
    assert "the EPC holds 2 MiB" in sentence
    assert "% of that is paging" in sentence


def test_an_uncertain_verdict_says_so(paging):
    """Between certain and impossible, the verdict gives the likelier outcome."""
    sentence = verdict(replace(paging, overcommit=Overcommit(predicted=True, probability=0.6)))
    assert "at the edge" in sentence
    assert "It probably pages." in sentence


def test_a_network_that_fits_is_called_so(paging):
    """Without over-commitment the first words are that it fits."""
    fits = replace(paging, overcommit=Overcommit(predicted=False, probability=0.0))
    assert verdict(fits).startswith("squeezenet1_1 fits: ")


@pytest.mark.parametrize(
    ("factor", "predicted", "says"), [(1.03, False, "just fits"), (0.97, True, "just does not fit")]
)
def test_near_the_epc_the_verdict_says_so_and_what_to_plan_for(paging, factor, predicted, says):
    """Within 5 % of the EPC the model just fits or just does not, and the EPC to plan for is named."""
    needed = paging.memory.working_set_bytes
    memory = replace(paging.memory, epc_bytes=round(factor * needed))
    near = replace(paging, memory=memory, overcommit=Overcommit(predicted=predicted, probability=0.5))
    sentence = verdict(near)
    assert sentence.startswith(f"squeezenet1_1 {says}: ")
    assert "Plan for an EPC of" in sentence


def test_a_guess_gives_the_interval_and_no_latency(paging):
    """A guess says between which times the latency lies, and how to know it."""
    guess = replace(paging, grade=Grade(GUESS, "", 0.1), latency_ms=182.0, interval_ms=Interval(1.6, 914.0))
    sentence = verdict(guess)
    assert "One inference takes between 1.60 and 914 ms, a guess: run 'sectum measure' to know." in sentence
    assert "182" not in sentence


def test_outside_an_enclave_memory_is_unlimited(paging):
    """Without an EPC the verdict compares nothing with it."""
    native = replace(paging, memory=replace(paging.memory, epc_bytes=None, margin_bytes=None))
    assert "unlimited memory" in verdict(native)
    assert "EPC" not in verdict(native)
