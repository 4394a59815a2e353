"""Refusals are those of the specification."""

from __future__ import annotations

import re

import pytest

from places import ROOT
from sectum.errors import SectumError
from sectum.hetee.errors import HeteeError, PolicyRefused, Refusal, Scope, refusal

SPEC = ROOT / "docs" / "spec" / "wire-format.md"


def test_the_table_is_the_code() -> None:
    """Every refusal of the specification exists with its number and scope, and there is no other."""
    rows = re.findall(r"^\| 0x([0-9a-f]{4}) \| (\w+) \| ([csr]) \|", SPEC.read_text(), re.M)
    assert {(int(code, 16), name, Scope(scope)) for code, name, scope in rows} == {
        (int(code), code.name, code.scope) for code in Refusal
    }
    assert len(rows) == len(Refusal) > 40


@pytest.mark.parametrize("code", Refusal)
def test_every_refusal_says_what_to_do(code: Refusal) -> None:
    """A refusal becomes an error of its group that carries code, detail and advice."""
    error = refusal(code, "something happened")
    assert isinstance(error, SectumError)
    assert (error.code, error.detail) == (code, "something happened")
    assert str(error) == f"something happened [{code.name}]: {code.advice}"
    assert 41 <= error.exit_code <= 49
    assert isinstance(error, PolicyRefused) == (code is Refusal.POLICY)


def test_groups_have_exit_codes_of_their_own() -> None:
    """No two groups of refusals end a command with the same code."""
    codes = [group.exit_code for group in HeteeError.__subclasses__()]
    assert len(set(codes)) == len(codes) == 9
