"""Inputs on the command line, and networks whose shapes or branches depend on them."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sectum.cli.input_file import archive_of, read_arrays
from sectum.cli.options import read_inputs
from sectum.errors import UsageError

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def info(name, shape, dtype=FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def save(folder: Path, nodes, inputs, weights=None, outputs=None, extra=()) -> Path:
    """A model file with the output y."""
    graph = helper.make_graph(
        nodes, "made", inputs, outputs or [info("y", None)],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1), *extra]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "made.onnx")
    return folder / "made.onnx"


def branch(name: str, operators: list[onnx.NodeProto]) -> onnx.GraphProto:
    return helper.make_graph(operators, name, [], [info(operators[-1].output[0], None)])


BRANCHES = {
    "then_branch": branch("then", [helper.make_node("MatMul", ["x", "wide"], ["t"])]),
    "else_branch": branch("else", [helper.make_node("Slice", ["x", "zero", "eight", "one"], ["e"])]),
}
WEIGHTS = {"wide": np.ones((512, 8), np.float32), "zero": np.array([0]), "eight": np.array([8]), "one": np.array([1]),
           "sixteen": np.array(16000)}  # fmt: skip
CHOICE = helper.make_node("If", ["c"], ["y"], name="choice", **BRANCHES)


def by_rate(folder: Path) -> Path:
    equal = helper.make_node("Equal", ["rate", "sixteen"], ["c"])
    return save(folder, [equal, CHOICE], [info("x", [1, "n"]), info("rate", [], INT64)], WEIGHTS)


def by_data(folder: Path) -> Path:
    nodes = [helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0), helper.make_node("Cast", ["m"], ["c"], to=9)]
    return save(folder, [*nodes, CHOICE], [info("x", [1, "n"])], WEIGHTS)


@pytest.mark.parametrize(
    ("written", "name", "value"),
    [("rate=0.5", "rate", 0.5), ("rate=-3", "rate", -3), ("rate=0", "rate", 0), ("flag=true", "flag", True),
     ("ids=[1,2,3]", "ids", [1, 2, 3]), ("ids=[[1],[2]]", "ids", [[1], [2]]), ("a.b:0=[1.5]", "a.b:0", [1.5])],
)  # fmt: skip
def test_values_are_read(written, name, value):
    """What is no shape is a value: a number, true or false, or lists of them."""
    given = read_inputs(None, None, (written,))[name]
    assert given.tolist() == value


@pytest.mark.parametrize("name", ["a:0", "a.b", "x/y:0", "a=b", "ü"])
def test_names_of_inputs_may_be_anything(name):
    """Names with colons, dots and equals signs are read with their shapes."""
    assert read_inputs(None, None, (f"{name}=1x3",)) == {name: (1, 3)}


@pytest.mark.parametrize(
    "text",
    ["NaN", "[1,[2]]", "[]", "{}", '"a"', "[1,null]", "[" * 5000 + "]" * 5000, "[" + "9" * 5000 + "]", "1e", "1x"],
)
def test_what_is_no_value_is_refused(run, tiny, text):
    """Text that is neither a shape nor a value is a usage error that shows good ones."""
    result = run("predict", tiny, "--input", f"image={text}")
    assert result.exit_code == 2
    assert "rate=16000" in result.stderr


def test_values_come_from_a_file(run, tmp_path):
    """Arrays of an .npz file are values of inputs; one that --input gives as well is refused."""
    model = by_rate(tmp_path)
    np.savez(tmp_path / "in.npz", x=np.ones((1, 512), np.float32), rate=np.array(16000))
    data = json.loads(run("predict", model, "--input-file", tmp_path / "in.npz", "--json").stdout)
    assert "If 'choice' takes its then branch by the given values" in data["notes"]
    result = run("predict", model, "--input-file", tmp_path / "in.npz", "--input", "rate=1")
    assert result.exit_code == 2
    assert "leave one out" in result.stderr


def npy(header: str) -> bytes:
    """An array file with this header and no data."""
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("huge", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000)}\n"), "take more than"),
        ("negative", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-4,)}\n"), "impossible shape"),
        ("short", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (400,)}\n"), "numpy.savez"),
        ("code", npy("{'descr': '<f4', 'shape': __import__('os')}\n"), "numpy.savez"),
        ("objects", npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n"), "no array of numbers"),
        ("no-array", b"text", "numpy.savez"),
    ],
)  # fmt: skip
def test_hostile_input_file_is_refused(tmp_path, name, content, said):
    """An array that is too large, damaged, or holds objects is refused before it is unpacked."""
    with zipfile.ZipFile(tmp_path / "in.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", content)
    with pytest.raises(UsageError, match=said):
        read_arrays(tmp_path / "in.npz")


def test_file_that_is_no_archive_is_refused(tmp_path):
    """A file of another format, a missing one, and one with pickled objects are refused."""
    (tmp_path / "in.npz").write_bytes(b"no archive")
    with pytest.raises(UsageError, match=r"numpy\.savez"):
        read_arrays(tmp_path / "in.npz")
    with pytest.raises(UsageError, match="no file"):
        read_arrays(tmp_path / "nothing.npz")
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([{}], dtype=object))
    (tmp_path / "in.npz").write_bytes(buffer.getvalue())
    with pytest.raises(UsageError, match="no array of numbers"):
        read_arrays(tmp_path / "in.npz")


def test_value_that_decides_a_branch_is_asked_for(run, tmp_path):
    """Where a small input decides between branches, its value is asked for by name."""
    result = run("predict", by_rate(tmp_path), "--input", "x=1x512")
    assert result.exit_code == 14
    assert "--input rate=1" in result.stderr


@pytest.mark.slow
def test_what_is_measured_is_what_was_predicted(run, tmp_path):
    """A given value chooses the branch in the prediction and in the measurement."""
    line = ["--input", "x=1x300", "--input", "rate=8000", "--json"]
    predicted = json.loads(run("predict", by_rate(tmp_path), *line).stdout)
    assert sorted(layer["type"] for layer in predicted["layers"]) == ["Equal", "Slice"]
    measured = run("measure", by_rate(tmp_path), "--enclave", "native", "--runs", "2", *line)
    assert measured.exit_code == 0, measured.stderr
    assert json.loads(measured.stdout)["prediction"]["latency_ms"] == pytest.approx(predicted["latency_ms"])
    refused = run("measure", by_rate(tmp_path), "--enclave", "native", "--runs", "2", "--input", "x=1x300",
                  "--input", "rate=16000", "--json")  # fmt: skip
    assert refused.exit_code == 15


def test_branches_that_the_data_decide_are_a_range(run, tmp_path):
    """Where the data decide between branches, the interval covers both, and a note and the grade say so."""
    data = json.loads(run("predict", by_data(tmp_path), "--input", "x=1x512", "--json").stdout)
    assert data["grade"]["word"] == "guess"
    assert [note for note in data["notes"] if "2 ways through the network" in note]
    low, high = data["interval_ms"]
    assert low < data["latency_ms"] <= high
    only_one = json.loads(run("predict", by_data(tmp_path), "--input", "x=1x300", "--json").stdout)
    assert not [note for note in only_one["notes"] if "ways through" in note]  # the other branch does not fit


@pytest.mark.slow
def test_loops_are_refused_with_their_reason(run, tmp_path):
    """A network with a loop is not predicted, and is measured all the same."""
    body = helper.make_graph(
        [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Identity", ["go"], ["on"])], "body",
        [info("i", [], INT64), info("go", [], TensorProto.BOOL), info("a", [1, 4])],
        [info("on", [], TensorProto.BOOL), info("b", [1, 4])])  # fmt: skip
    model = save(tmp_path, [helper.make_node("Loop", ["n", "yes", "x"], ["y"], body=body, name="rounds")],
                 [info("x", [1, 4])], {"n": np.array(3), "yes": np.array(True)})  # fmt: skip
    result = run("predict", model)
    assert result.exit_code == 16
    assert "'rounds' (Loop)" in result.stderr
    measured = run("measure", model, "--enclave", "native", "--runs", "2", "--json")
    assert "(Loop)" in json.loads(measured.stdout)["not_predicted"]


def test_classical_machine_learning_is_refused_by_name(run, tmp_path):
    """An operator of ai.onnx.ml is refused in one sentence that names it."""
    node = helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[0.0], scale=[1.0], name="norm")
    model = save(tmp_path, [node], [info("x", [1, 4])], extra=[helper.make_opsetid("ai.onnx.ml", 3)])
    for command in ("predict", "measure"):
        result = run(command, model)
        assert result.exit_code == 16
        assert "'norm' (ai.onnx.ml:Scaler)" in result.stderr


@pytest.mark.slow
def test_runtime_tells_a_shape_that_no_rule_gives(run, tmp_path):
    """The shape of an operator without a rule comes from a run of the model in a process of its own, as a note says."""
    nodes = [helper.make_node("MurmurHash3", ["x"], ["h"], domain="com.microsoft"),
             helper.make_node("Cast", ["h"], ["y"], to=FLOAT)]  # fmt: skip
    data = json.loads(run("predict", save(tmp_path, nodes, [info("x", ["n", 4])]), "--batch", "3", "--json").stdout)
    assert [note for note in data["notes"] if "ran the model once" in note and "com.microsoft:MurmurHash3" in note]
    assert data["layers"][-1]["output_shape"] == [3, 4]


@pytest.mark.slow
def test_shapes_that_data_decide_are_those_of_the_run(run, tmp_path):
    """A shape that depends on the data is that of a run, and a note says so; a failing run is a refusal."""
    nodes = [helper.make_node("NonZero", ["x"], ["z"]), helper.make_node("Cast", ["z"], ["y"], to=FLOAT)]
    model = save(tmp_path, nodes, [info("x", [2, 3])])
    np.savez(tmp_path / "in.npz", x=np.array([[1, 0, 0], [0, 0, 1]], np.float32))
    data = json.loads(run("predict", model, "--input-file", tmp_path / "in.npz", "--json").stdout)
    assert data["layers"][-1]["output_shape"] == [2, 2]
    assert [note for note in data["notes"] if "values of the inputs" in note]
    unknown = save(tmp_path, [helper.make_node("Secret", ["x"], ["y"], domain="com.example")], [info("x", [2, 3])],
                   extra=[helper.make_opsetid("com.example", 1)])  # fmt: skip
    result = run("predict", unknown)
    assert result.exit_code == 15
    assert "A run of the model" in result.stderr


def test_written_arrays_are_read_again(tmp_path):
    """Arrays are written and read under any name, also those of parameters of numpy.savez and those with slashes."""
    arrays = {
        "file": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a/b": np.array([1, 2]),
        "a_b": np.array(True),
        "../c:0": np.zeros((0, 3), np.int8),
        "args": np.array(1.5),
    }
    (tmp_path / "out.npz").write_bytes(archive_of(arrays))
    for found in (read_arrays(tmp_path / "out.npz"), dict(np.load(tmp_path / "out.npz"))):
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array, strict=True)
