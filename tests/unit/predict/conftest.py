"""A real network read once, and the shipped operator models."""

from __future__ import annotations

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
