"""Ways to run the command line, and a model that is quick to read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from sectum.cli.main import cli


@pytest.fixture(autouse=True)
def no_calibration(tmp_path_factory, monkeypatch):
    """Predictions in the shipped machine's milliseconds, whatever the machine of the tests has stored."""
    monkeypatch.setenv("SECTUM_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run a command line in this process."""

    def run_line(*words: object) -> Result:
        return CliRunner().invoke(cli, [str(word) for word in words])

    return run_line


@pytest.fixture
def process() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command line in a process of its own."""

    def start(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sectum.cli", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    return start


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A model of a convolution and a ReLU, whose batch is open."""
    weights = np.ones((8, 3, 3, 3), np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["features"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["result"], name="relu"),
    ]
    shape = ["N", 3, 32, 32]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, ["N", 8, 32, 32])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path = tmp_path / "tiny.onnx"
    path.write_bytes(model.SerializeToString())
    return path
