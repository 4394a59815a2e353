"""A real network read once, and the shipped operator models."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx
import pytest

from sectum.enclave import profile as profiles
from sectum.graph import read
from sectum.predict import OperatorModel, Predictor


@pytest.fixture(scope="session")
def light():
    """The folder of the nine CNNs that the onnx package brings."""
    return Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@pytest.fixture(scope="session")
def operators():
    return OperatorModel.load()


class _PagesByKind(OperatorModel):
    def page_correction(self, features, counts, epc_pages):
        return 1.0


@pytest.fixture(scope="session")
def pages_by_kind(operators):
    """Makes operator models of which the cost of a page depends on nothing but the given factors."""
    known = {field.name: getattr(operators, field.name) for field in dataclasses.fields(operators)}
    return lambda factors: _PagesByKind(**known | {"page_factors": factors})


@pytest.fixture(scope="session")
def predictor(operators):
    return Predictor(operators)


@pytest.fixture(scope="session")
def squeezenet(light):
    return read(light / "light_squeezenet.onnx").graph


@pytest.fixture(scope="session")
def alexnet(light):
    return read(light / "light_bvlc_alexnet.onnx").graph


@pytest.fixture(scope="session")
def softepc():
    return profiles.load("softepc")
