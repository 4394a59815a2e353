"""Searches use the compiled rule if they can; tests/property/test_replacement.py compares its counts."""

from __future__ import annotations

import pytest

from sectum.errors import EnclaveFailed, EnclaveUnavailable
from sectum.paging import compiled_replacement as module
from sectum.paging.replacement import ReplacementPolicy, Touch, steady_state

SWEEP = [Touch(0, 0, 64), Touch(1, 64, 64)]


@pytest.mark.parametrize("error", [EnclaveUnavailable, EnclaveFailed])
def test_without_a_compiler_there_is_none(monkeypatch, error):
    """Where it cannot be compiled there is no error, because the rule in Python counts the same."""

    def refuse(*_):
        raise error("no compiler")

    monkeypatch.setattr(module, "compiled", refuse)
    assert module.compiled_replacement.__wrapped__() is None


@pytest.mark.slow
def test_a_policy_that_it_does_not_know_is_left_to_python():
    """LRU is not compiled; its counts come from Python even if the compiled rule is given."""
    compiled = module.compiled_replacement()
    assert ReplacementPolicy.LRU not in compiled.POLICIES
    assert steady_state(SWEEP, 100, ReplacementPolicy.LRU, compiled=compiled).loads == 128


@pytest.mark.slow
def test_an_epc_far_larger_than_the_working_set_costs_no_memory():
    """Touches that fit are not simulated, so no array of the EPC's size is allocated."""
    compiled = module.compiled_replacement()
    assert steady_state(SWEEP, 1 << 50, compiled=compiled).resident_pages == 128
