"""The shipped operator models and real networks, which several rooms share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from places import LIGHT

if TYPE_CHECKING:
    from sectum.enclave.profile import Enclave
    from sectum.graph import Graph
    from sectum.predict import OperatorModel, Predictor


@pytest.fixture(scope="session")
def light() -> Path:
    """The folder of the nine CNNs that the onnx package brings."""
    return LIGHT


@pytest.fixture(scope="session")
def operators() -> OperatorModel:
    """The operator models that the package ships."""
    from sectum.predict import OperatorModel

    return OperatorModel.load()


@pytest.fixture(scope="session")
def predictor(operators: OperatorModel) -> Predictor:
    """A predictor with the shipped operator models."""
    from sectum.predict import Predictor

    return Predictor(operators)


@pytest.fixture(scope="session")
def squeezenet(light: Path) -> Graph:
    """SqueezeNet 1.0 of the onnx package."""
    from sectum.graph import read

    return read(light / "light_squeezenet.onnx").graph


@pytest.fixture(scope="session")
def alexnet(light: Path) -> Graph:
    """AlexNet of the onnx package: most of its weights are in dense layers."""
    from sectum.graph import read

    return read(light / "light_bvlc_alexnet.onnx").graph


@pytest.fixture(scope="session")
def softepc() -> Enclave:
    """The profile of the software EPC."""
    from sectum.enclave import profile

    return profile.load("softepc")
