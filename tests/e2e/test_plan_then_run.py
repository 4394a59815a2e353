"""A network that does not fit: planned, run and measured in the software enclave, as a user does it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sectum import zoo
from sectum.enclave.runners.softepc import SoftEpcRunner
from sectum.errors import EnclaveUnavailable
from sectum.units import MIB, parse_bytes


@pytest.fixture(scope="module", autouse=True)
def enclave() -> None:
    try:
        SoftEpcRunner().check()
    except EnclaveUnavailable as error:
        pytest.skip(f"no software enclave here: {error}")


def sectum(home: Path, *words: object) -> dict:
    """Run a command line as a process, and read its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "sectum.cli", *map(str, words), "--json"],
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
        env=os.environ | {"SECTUM_HOME": str(home)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def model(folder: Path, network: str) -> str:
    """What the command line is given: a published network, or the file of one with half as many channels."""
    name, _, half = network.partition(" half")
    if name == network:
        return f"zoo:{name}"
    path = folder / f"{name}.onnx"
    resolution = int(half.removeprefix(" of ")) if half else None
    path.write_bytes(zoo.to_bytes(zoo.network(name, width=0.5, resolution=resolution), batch=1))
    return str(path)


@pytest.mark.parametrize(
    ("network", "epc", "threads"),
    [
        ("resnet50 half", "10MiB", 1),
        # Here the weights of one operator exceed the EPC.
        ("alexnet half of 160", "10MiB", 1),
        ("squeezenet1_1", "6MiB", 2),
        # Here the activations alone exceed the EPC.
        ("squeezenet1_1", "4.4MiB", 1),
        ("mobilenet_v2", "6MiB", 1),
        ("densenet121", "10MiB", 1),
        # Here one activation exceeds the EPC, and the weights of one operator are 16 times as large as it.
        ("vgg16 half of 160", "3MiB", 1),
    ],
)
def test_a_planned_network_does_not_page(tmp_path: Path, network: str, epc: str, threads: int) -> None:
    """In the enclave a plan gives the native outputs, evicts no page, and keeps within the EPC."""
    plan = tmp_path / "plan.json"
    planned = sectum(tmp_path, "plan", model(tmp_path, network), "--epc", epc, "--threads", threads, "-o", plan)
    assert planned["unplanned_ms"] > 2 * planned["latency_ms"]
    measured = sectum(tmp_path, "measure", plan, "--runs", 2, "--deadline", 400)
    assert measured["outputs_equal_native"] is True
    assert measured["peak_resident_bytes"] <= parse_bytes(epc)
    assert measured["resident_bytes"] <= planned["resident_bytes"] + MIB
    assert measured["evictions"] == 0
    assert measured["loads"] < 50  # of what the process uses now and then
    assert measured["opened_bytes"] == planned["opened_bytes"]
    assert measured["native_ms"] > 0


def test_a_run_takes_inputs_and_writes_outputs(tmp_path: Path) -> None:
    """`run` follows a plan with given inputs, and the same inputs give the same outputs without one."""
    values = np.random.default_rng(3).random((1, 3, 224, 224), np.float32)
    np.savez(tmp_path / "in.npz", input=values)
    plan, out = tmp_path / "plan.json", tmp_path / "out.npz"
    sectum(tmp_path, "plan", "zoo:squeezenet1_1", "--epc", "5MiB", "-o", plan)
    found = sectum(tmp_path, "run", plan, "--input-file", tmp_path / "in.npz", "-o", out)
    plain = sectum(tmp_path, "run", "zoo:squeezenet1_1", "--epc", "93MiB", "--input-file", tmp_path / "in.npz")
    assert found["stages"] > 1
    assert plain["stages"] == 1
    assert found["outputs"] == plain["outputs"]
    with np.load(out) as arrays:
        assert arrays["output"].shape == (1, 1000)


@pytest.mark.parametrize("enclaves", [1, 2])
def test_weights_as_int8_are_said_to_change_outputs(tmp_path: Path, enclaves: int) -> None:
    """With `--weights int8` a quarter is opened, and plan, run and measure say that outputs differ, and by how much."""
    plan, whole = tmp_path / "plan.json", tmp_path / "whole.json"
    words = ["zoo:squeezenet1_1", "--epc", "3.5MiB"] if enclaves == 2 else ["zoo:squeezenet1_1", "--epc", "6MiB"]
    words += ["--enclaves", enclaves] if enclaves > 1 else []
    exact = sectum(tmp_path, "plan", *words, "-o", whole)
    planned = sectum(tmp_path, "plan", *words, "--weights", "int8", "-o", plan)
    assert exact["outputs_equal_native"] is True
    assert planned["outputs_equal_native"] is False
    assert {stage["weights"] for stage in exact["stages"]} <= {"streamed", "stay"}
    assert "int8" in {stage["weights"] for stage in planned["stages"]}
    assert 0 < planned["opened_bytes"] < 0.5 * exact["opened_bytes"]
    found = sectum(tmp_path, "run", plan)
    assert sectum(tmp_path, "run", whole)["largest_difference"] is None
    assert 0 < found["largest_difference"] < 0.2
    measured = sectum(tmp_path, "measure", plan, "--runs", 2, "--deadline", 400)
    assert measured["outputs_equal_native"] is False
    assert measured["largest_difference"] == pytest.approx(found["largest_difference"])


@pytest.mark.parametrize(
    ("network", "epc", "enclaves", "goal"),
    [
        ("resnet50 half", "10MiB", 4, "latency"),
        ("squeezenet1_1", "6MiB", 3, "throughput"),
        ("alexnet half", "16MiB", 4, "latency"),
    ],
)
def test_a_chain_of_enclaves_gives_the_native_outputs(
    tmp_path: Path, network: str, epc: str, enclaves: int, goal: str
) -> None:
    """Each enclave of a plan keeps within its EPC, and the outputs are the native ones, bit for bit."""
    plan = tmp_path / "plan.json"
    words = ("--epc", epc, "--enclaves", enclaves, "--goal", goal, "-o", plan)
    planned = sectum(tmp_path, "plan", model(tmp_path, network), *words)
    measured = sectum(tmp_path, "measure", plan, "--runs", 2, "--deadline", 400)
    assert measured["outputs_equal_native"] is True
    assert len(measured["enclaves"]) == len(planned["enclaves"]) > 1
    for found, expected in zip(measured["enclaves"], planned["enclaves"], strict=True):
        assert found["peak_resident_bytes"] <= parse_bytes(epc)
        assert found["resident_bytes"] <= expected["resident_bytes"] + MIB
        assert found["evictions"] == 0
        assert found["opened_bytes"] == pytest.approx(expected["opened_bytes"], rel=0.02, abs=1 << 16)
        assert 0 <= found["sent_bytes"] - expected["sent_bytes"] < 1 << 16  # tags, and what describes the values
    assert measured["latency_ms"] > measured["computing_ms"]


def test_a_chain_runs_with_given_inputs(tmp_path: Path) -> None:
    """`run` of a plan for several enclaves gives what one enclave without a plan gives for the same inputs."""
    values = np.random.default_rng(3).random((1, 3, 224, 224), np.float32)
    np.savez(tmp_path / "in.npz", input=values)
    plan = tmp_path / "plan.json"
    sectum(tmp_path, "plan", "zoo:squeezenet1_1", "--epc", "6MiB", "--enclaves", 2, "-o", plan)
    found = sectum(tmp_path, "run", plan, "--input-file", tmp_path / "in.npz")
    plain = sectum(tmp_path, "run", "zoo:squeezenet1_1", "--epc", "93MiB", "--input-file", tmp_path / "in.npz")
    assert found["enclaves"] == 2
    assert found["outputs"] == plain["outputs"]


def test_outputs_keep_their_names(tmp_path: Path) -> None:
    """`run -o` writes every output under the name that the model gives it, whatever that is."""
    names, kinds = ["file", "a/b", "a_b", "../c:0"], ["Relu", "Neg", "Abs", "Exp"]
    graph = helper.make_graph(
        [helper.make_node(kind, ["x"], [name]) for kind, name in zip(kinds, names, strict=True)],
        "names",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in names],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    np.savez(tmp_path / "in.npz", x=np.array([[1, -2, 3], [-4, 5, -6]], np.float32))
    out = tmp_path / "out.npz"
    found = sectum(tmp_path, "run", tmp_path / "m.onnx", "--input-file", tmp_path / "in.npz", "-o", out)
    assert list(found["outputs"]) == names
    with np.load(out) as arrays:
        assert list(arrays) == names
        assert arrays["a/b"].tolist() == [[-1, 2, -3], [4, -5, 6]]
        assert arrays["a_b"].tolist() == [[1, 2, 3], [4, 5, 6]]
