"""The verdict on a prediction."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sectum.cli.predict.predicting import Request, predict
from sectum.cli.predict.verdict import verdict
from sectum.predict.prediction import Overcommit
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


def test_outside_an_enclave_memory_is_unlimited(paging):
    """Without an EPC the verdict compares nothing with it."""
    native = replace(paging, memory=replace(paging.memory, epc_bytes=None, margin_bytes=None))
    assert "unlimited memory" in verdict(native)
    assert "EPC" not in verdict(native)
