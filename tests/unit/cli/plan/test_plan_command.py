"""What `sectum plan` answers."""

from __future__ import annotations

import json
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sectum.units import MIB


def answer(result):
    """The JSON of a command that went well."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_plan_has_every_documented_key(run) -> None:
    """`plan --json` gives latencies, memory and stages with their operators, weights, bytes and costs."""
    data = answer(run("plan", "zoo:alexnet", "--epc", "93MiB", "--json"))
    low, high = data["interval_ms"]
    assert low < data["latency_ms"] < high < data["unplanned_ms"]
    assert data["native_ms"] < data["latency_ms"]
    assert data["resident_bytes"] <= 93 * MIB
    assert data["opened_bytes"] == sum(stage["opened_bytes"] for stage in data["stages"])
    for stage in data["stages"]:
        assert {"first", "last", "channels", "weights", "enclave", "operators", "weight_bytes", "cost"} <= set(stage)


@pytest.mark.slow
def test_a_written_plan_can_be_read_again(run, tmp_path) -> None:
    """`plan -o` writes the JSON that `--json` prints, and says how to follow it."""
    path = tmp_path / "plan.json"
    result = run("plan", "zoo:alexnet", "--epc", "32MiB", "-o", path)
    assert result.exit_code == 0, result.stderr
    assert f"sectum run {path}" in result.stdout.replace("\n", " ")
    written = json.loads(path.read_text())
    assert written == answer(run("plan", "zoo:alexnet", "--epc", "32MiB", "--json"))


def test_stages_are_listed(run) -> None:
    """`plan --stages` has a row for each stage."""
    listed = run("plan", "zoo:squeezenet1_1", "--epc", "6MiB", "--stages").stdout
    count = len(answer(run("plan", "zoo:squeezenet1_1", "--epc", "6MiB", "--json"))["stages"])
    assert len(re.findall(r"^ *\d+  ", listed, re.MULTILINE)) == count


def test_what_fits_needs_no_plan(run) -> None:
    """A network that fits is said to need no plan."""
    assert "needs no plan" in run("plan", "zoo:squeezenet1_1", "--epc", "93MiB").stdout


@pytest.mark.slow
def test_a_batch_shares_what_is_opened(run) -> None:
    """`--goal throughput` finds the batch with the least time for each sample, which is less than that of one."""
    one = answer(run("plan", "zoo:alexnet", "--epc", "93MiB", "--json"))
    many = answer(run("plan", "zoo:alexnet", "--epc", "93MiB", "--goal", "throughput", "--json"))
    assert many["model"]["batch"] > 1
    assert many["ms_per_sample"] == pytest.approx(many["latency_ms"] / many["model"]["batch"])
    assert many["ms_per_sample"] < one["ms_per_sample"] / 1.5


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("plan", "zoo:alexnet", "--enclave", "native"), 2),
        (("plan", "zoo:alexnet", "--goal", "throughput", "--batch", "2"), 2),
        (("plan", "zoo:alexnet", "--enclave", "sgx1", "--measure"), 2),
        (("plan", "zoo:alexnet", "--bandwidth", "10Gbps"), 2),
        (("plan", "zoo:alexnet", "--delay", "1ms"), 2),
        (("plan", "zoo:alexnet", "--enclaves", "0"), 2),
        (("plan", "zoo:alexnet", "--enclaves", "65"), 2),
        (("plan", "zoo:alexnet", "--enclaves", "2", "--bandwidth", "10"), 2),
        (("plan", "zoo:alexnet", "--enclaves", "2", "--bandwidth", "0Gbps"), 2),
        (("plan", "zoo:alexnet", "--enclaves", "2", "--delay", "-1ms"), 2),
        (("plan", "zoo:alexnet", "--enclaves", "2", "--enclave", "native"), 2),
        (("plan", "zoo:squeezenet1_1", "--epc", "6MiB", "-o", "plan.txt"), 2),
        (("plan", "zoo:nothing"), 17),
        (("plan", "missing.onnx"), 10),
        (("run", "missing.json"), 30),
        (("run", "missing.json", "--epc", "93MiB"), 2),
        (("measure", "missing.json"), 30),
        (("measure", "missing.json", "--threads", "2"), 2),
        (("measure", "missing.json", "--policy", "fifo"), 2),
        (("measure", "missing.json", "--as-loaded"), 2),
        (("measure", "missing.json", "--no-predict"), 2),
        (("run", "zoo:alexnet", "--enclave", "gramine"), 2),
    ],
)
def test_wrong_calls_end_with_their_exit_code(run, words: tuple[str, ...], code: int) -> None:
    """Errors of plans have documented exit codes."""
    assert run(*words).exit_code == code


def test_a_plan_for_another_model_is_refused(run, tiny, tmp_path) -> None:
    """A plan does not run a model whose file has changed since, nor one with another number of operators."""
    path = tmp_path / "plan.json"
    assert run("plan", tiny, "--batch", "1", "-o", path).exit_code == 0
    data = json.loads(path.read_text())
    for change in ({"operators": data["operators"] + 1}, {"model": data["model"] | {"sha256": "0" * 64}}):
        path.write_text(json.dumps(data | change))
        assert run("run", path).exit_code == 30


def test_a_plan_for_several_enclaves_names_the_enclave_of_each_stage(run, tmp_path) -> None:
    """`plan --enclaves` gives latency, pipeline, enclaves and links; `-o` writes the same, and it is read again."""
    path = tmp_path / "plan.json"
    words = ("plan", "zoo:squeezenet1_1", "--epc", "6MiB", "--enclaves", "3", "--goal", "throughput")
    data = answer(run(*words, "--bandwidth", "1Gbps", "--delay", "50us", "-o", path, "--json"))
    assert data == json.loads(path.read_text())
    assert (data["link"]["bits_per_s"], data["link"]["delay_ms"]) == (1e9, 0.05)
    assert {stage["enclave"] for stage in data["stages"]} == set(range(len(data["enclaves"])))
    assert all(one["resident_bytes"] <= 6 * MIB for one in data["enclaves"])
    assert data["pipeline_ms"] == max(one["busy_ms"] for one in data["enclaves"])
    assert data["latency_ms"] == pytest.approx(sum(one["busy_ms"] + one["link_ms"] for one in data["enclaves"]))
    from sectum.cli.plan.chain import read_any

    assert read_any(path).planned.latency_ms == pytest.approx(data["latency_ms"])


def test_enclaves_and_stages_are_listed(run) -> None:
    """`plan --enclaves` has a row for each enclave, and with `--stages` one for each stage."""
    words = ("plan", "zoo:squeezenet1_1", "--epc", "6MiB", "--enclaves", "3")
    data = answer(run(*words, "--json"))
    plain, listed = run(*words).stdout, run(*words, "--stages").stdout
    assert f"{len(data['enclaves'])} enclaves of 6 MiB" in plain
    assert len(listed.splitlines()) >= len(plain.splitlines()) + len(data["stages"])


@pytest.mark.parametrize(("epc", "goal"), [("93MiB", "latency"), ("93MiB", "throughput"), ("1MiB", "latency")])
def test_several_enclaves_are_never_slower_than_one(run, tiny, epc: str, goal: str) -> None:
    """Where several enclaves gain nothing, the plan is that for one, so nobody gets one that is slower than no plan."""
    one = answer(run("plan", tiny, "--batch", "1", "--epc", epc, "--json"))
    words = ("plan", tiny, "--batch", "1", "--epc", epc, "--enclaves", "3", "--goal", goal)
    assert answer(run(*words, "--json")) == one
    assert one["latency_ms"] <= one["unplanned_ms"]
    assert "needs no plan" in run(*words).stdout


def test_a_network_as_it_is_takes_what_it_is_predicted_to_take(run, tmp_path) -> None:
    """If no plan helps, `plan` states the latency of `predict`: a layer that pages has no plan of one stage."""
    model = helper.make_model(recurrent(), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "lstm.onnx")
    planned = answer(run("plan", tmp_path / "lstm.onnx", "--epc", "1MiB", "--json"))
    predicted = answer(run("predict", tmp_path / "lstm.onnx", "--epc", "1MiB", "--json"))
    assert len(planned["stages"]) == 1
    assert planned["latency_ms"] == planned["unplanned_ms"] == pytest.approx(predicted["latency_ms"])
    assert planned["latency_ms"] > 10 * planned["native_ms"]


def recurrent(steps: int = 10, size: int = 256) -> onnx.GraphProto:
    """An LSTM whose weights, which it reads once for each step, are larger than the EPC."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal((1, 4 * size, size)).astype(np.float32) / 16, name)
        for name in ("w", "r")
    ]
    return helper.make_graph(
        [helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=size, name="lstm")],
        "recurrent",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [steps, 1, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [steps, 1, 1, size])],
        weights,
    )
