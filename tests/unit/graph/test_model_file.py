"""Big weights stay in the file; whatever is asked of a model is as if all of it had been loaded."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sectum import zoo
from sectum.errors import ModelUnreadable, ShapeUnbound
from sectum.graph import Graph, Limits, model_file, parse, read


@pytest.fixture(autouse=True)
def _files_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_file, "WHOLE_BYTES", 0)


@pytest.fixture(scope="module")
def source() -> bytes:
    """SqueezeNet with its weights and an open batch."""
    return zoo.to_bytes(zoo.network("squeezenet1_1"))


@pytest.fixture
def path(source: bytes, tmp_path: Path) -> Path:
    file = tmp_path / "squeezenet.onnx"
    file.write_bytes(source)
    return file


def content(graph: Graph) -> tuple[Graph, dict[str, object]]:
    """All that a graph says but its name, which a file has and bytes have not."""
    values = {name: tensor.value.tolist() for name, tensor in graph.tensors.items() if tensor.value is not None}
    return dataclasses.replace(graph, name=""), values


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_graph_is_that_of_the_whole_file(path: Path, source: bytes) -> None:
    """A model whose weights stay in the file has the same graph as the same bytes."""
    assert content(read(path, batch=2).graph) == content(read(source, batch=2).graph)


def test_big_weights_are_left_out(path: Path, source: bytes) -> None:
    """What is loaded of a model with 4.9 MB of weights holds next to none of them."""
    buf = model_file.load(path, Limits()).buf
    assert len(buf) == len(source)
    assert np.count_nonzero(np.frombuffer(buf, np.uint8)) < 0.1 * len(source)


def test_the_model_that_is_run_has_its_weights(path: Path, source: bytes) -> None:
    """The bound model and the digest are made of the file's bytes, weights included."""
    model = read(path, batch=2)
    assert model.bound_bytes() == read(source, batch=2).bound_bytes()
    assert model.sha256 == hashlib.sha256(source).hexdigest()


def test_an_unchanged_model_is_its_own_source(tmp_path: Path) -> None:
    """Where nothing is bound, the model that is run is the file, byte for byte."""
    file = tmp_path / "squeezenet.onnx"
    zoo.write(zoo.network("squeezenet1_1"), file, batch=1)
    assert read(file).bound_bytes() == file.read_bytes()


def test_constants_and_subgraphs_are_looked_into(tmp_path: Path) -> None:
    """Payloads in Constant operators and in the branches of an If stay in the file; small values are loaded."""
    large = numpy_helper.from_array(np.ones((64, 1024), np.float32))
    branch = [helper.make_node("Constant", [], ["c"], value=large), helper.make_node("Add", ["x", "c"], ["b"])]
    output = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
    then, other = (helper.make_graph(branch, name, [], [output]) for name in ("then", "else"))
    nodes = [
        helper.make_node("If", ["yes"], ["i"], then_branch=then, else_branch=other),
        helper.make_node("Constant", [], ["k"], value=large),
        helper.make_node("Sum", ["i", "k", "w"], ["s"]),
        helper.make_node("Reshape", ["s", "shape"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "constants",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [64, 1024])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(True), "yes"), numpy_helper.from_array(np.array([32, 2048]), "shape"),
         helper.make_tensor("w", TensorProto.FLOAT, [64, 1024], np.ones(64 * 1024).tolist())],
    )  # fmt: skip
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    (tmp_path / "constants.onnx").write_bytes(data)
    model = read(tmp_path / "constants.onnx")
    assert content(model.graph) == content(read(data).graph)
    assert model.graph.tensors["y"].shape == (32, 2048)
    buf = model_file.load(tmp_path / "constants.onnx", Limits()).buf
    assert np.count_nonzero(np.frombuffer(buf, np.uint8)) < 0.1 * len(data)
    onnx.checker.check_model(onnx.load_from_string(model.bound_bytes()))


def test_a_file_that_changes_after_it_was_read_is_refused(path: Path) -> None:
    """Weights of another file than the one that was parsed are never run or hashed."""
    model = read(path, batch=1)
    os.utime(path, (1, 1))
    with pytest.raises(ModelUnreadable, match="changed"):
        model.bound_bytes()
    with pytest.raises(ModelUnreadable, match="changed"):
        _ = model.sha256


def test_a_file_that_shrinks_while_it_is_read_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes a file shorter under the reader causes an error, not the end of the process."""
    real = os.preadv

    def preadv(fd: int, buffers: list[memoryview], offset: int) -> int:
        os.truncate(path, 100)
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(ModelUnreadable, match="changed"):
        read(path, batch=1)


def test_a_replaced_file_is_still_the_one_that_was_read(path: Path, source: bytes) -> None:
    """The file stays open, so that a new file under its name is not mistaken for it."""
    model = read(path, batch=1)
    other = path.with_suffix(".new")
    other.write_bytes(b"other")
    other.replace(path)
    assert model.sha256 == hashlib.sha256(source).hexdigest()


def test_files_are_closed_with_their_models(path: Path) -> None:
    """A model's file is closed as soon as nobody holds the model, and when the model is refused."""
    gc.collect()  # closes what tests before have left
    before = open_files()
    model = read(path, batch=1)
    assert open_files() == before + 1
    del model
    assert open_files() == before
    with pytest.raises(ShapeUnbound):
        read(path)
    gc.collect()
    assert open_files() == before


def test_a_model_is_bound_again_without_its_file(path: Path, source: bytes) -> None:
    """Binding a parsed model to another batch needs no file, gives what reading again gives, and has no limit."""
    parsed = parse(path)
    path.unlink()
    for batch in (1, 3, 1):
        assert content(parsed.bind(batch=batch).graph) == content(read(source, batch=batch).graph)
    assert parsed.bind(inputs={"input": (2, 3, 224, 224)}).graph.tensors["output"].shape == (2, 1000)
    spent = parsed._parser.budget.used
    parsed.bind(batch=2)
    assert parsed._parser.budget.used == spent
