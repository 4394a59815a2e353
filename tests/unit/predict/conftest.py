"""Operator models whose cost of a page is known."""

from __future__ import annotations

import dataclasses

import pytest

from sectum.predict import OperatorModel


class _PagesByKind(OperatorModel):
    def page_corrections(self, inferences, epc_pages):
        return [1.0] * len(inferences)


@pytest.fixture(scope="session")
def pages_by_kind(operators):
    """Makes operator models of which the cost of a page depends on nothing but the given factors."""
    known = {field.name: getattr(operators, field.name) for field in dataclasses.fields(operators)}
    return lambda factors: _PagesByKind(**known | {"page_factors": factors})
