"""A model is bounded and complete in itself before the runtime sees it."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sectum.hetee.data_plane.messages import Loaded
from sectum.hetee.errors import Refusal, WorkRefused
from sectum.hetee.wire.kinds import MESSAGE_BYTES, TAG_BYTES
from sectum.hetee.wire.messages import encode
from sectum.hetee.worker.models import LIMITS, inspect
from sectum.testing.tiny_models import convolutions, endless_loop


def identity(name: str = "x", dtype: int = TensorProto.FLOAT, shape: list[int | str | None] | None = None) -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], ["y"])],
        "g",
        [helper.make_tensor_value_info(name, dtype, shape)],
        [helper.make_tensor_value_info("y", dtype, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


def refused(content: bytes, **limits: int) -> WorkRefused:
    with pytest.raises(WorkRefused) as caught:
        inspect(content, replace(LIMITS, **limits))
    assert caught.value.code is Refusal.MODEL_REFUSED
    return caught.value


def test_names_what_a_batch_has_to_give() -> None:
    """The inputs that a client is told of are the graph's, without its weights."""
    content = convolutions()
    model = inspect(content)
    assert [(slot.name, slot.dtype, slot.shape) for slot in model.inputs] == [("x", "float32", (1, 8, 32, 32))]
    assert [(slot.name, slot.dtype, slot.shape) for slot in model.outputs] == [("y", "float32", (1, 10))]
    assert model.sha256 == hashlib.sha256(content).digest()


def test_open_dimensions_have_names() -> None:
    """A dimension that is open travels as its name, one without a name as a question mark."""
    assert inspect(identity(shape=["batch", None, 4])).inputs[0].shape == ("batch", "?", 4)
    assert inspect(identity(shape=None)).inputs[0].shape == ("...",)


def test_names_of_dimensions_are_not_limits() -> None:
    """A dimension with a long name, as exporters write formulas, travels as a number; equal names as equal numbers."""
    formula = "floor((height + 31) / 32) + " * 2000
    model = inspect(identity(shape=["n" * 64, formula, "other " * 20, formula]))
    assert model.inputs[0].shape == ("n" * 64, "#1", "#2", "#1")
    assert model.outputs[0].shape == model.inputs[0].shape


def test_the_largest_description_fits_into_a_message() -> None:
    """64 inputs and outputs with the longest names fit into LOADED, because names of dimensions then become numbers."""
    names = [f"{i:02}" + "x" * 253 for i in range(64)]
    shape = [f"{i}" + "s" * 60 for i in range(8)]
    values = {w: [helper.make_tensor_value_info(w + name, TensorProto.FLOAT, shape) for name in names] for w in "xy"}
    nodes = [helper.make_node("Identity", [x.name], [y.name]) for x, y in zip(values["x"], values["y"], strict=True)]
    graph = helper.make_graph(nodes, "g", values["x"], values["y"])
    model = inspect(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    loaded = Loaded(sha256=model.sha256, inputs=model.inputs, outputs=model.outputs, load_us=0)
    assert len(encode(loaded)) <= MESSAGE_BYTES - TAG_BYTES
    assert model.inputs[0].shape == tuple(f"#{i}" for i in range(1, 9))


def test_a_model_does_not_show_its_content() -> None:
    """A model's bytes are a tenant's secret and are not in what Python shows of it."""
    assert b"Conv".decode() not in repr(inspect(convolutions()))


@pytest.mark.parametrize("content", [b"", b"not a model", convolutions()[:-7], b"ORTM" + bytes(64)])
def test_refuses_what_is_no_onnx(content: bytes) -> None:
    """Bytes that are no whole ONNX model never reach the runtime."""
    refused(content)


def test_refuses_what_is_over_a_limit() -> None:
    """The limits that guard memory and time hold for a tenant's model."""
    assert "2 operators" in refused(convolutions(), nodes=2).detail
    assert "tensor" in refused(convolutions(), tensor_bytes=100).detail


def test_refuses_files_outside() -> None:
    """A model with weights in another file is refused, at any depth: a worker has no files."""
    tensor = numpy_helper.from_array(np.ones(1, np.float32), "w")
    onnx.external_data_helper.set_external_data(tensor, location="../secret", offset=0, length=4)
    tensor.ClearField("raw_data")
    inner = helper.make_graph([helper.make_node("Identity", ["w"], ["z"])], "b", [], [_float("z")], [tensor])
    outer = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)],
        "g",
        [helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [_float("y")],
    )
    flat = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [_float("x")], [_float("y")], [tensor])
    for graph in (outer, flat):
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        assert "file" in refused(model.SerializeToString()).detail


def _float(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])


def test_refuses_what_cannot_travel() -> None:
    """An input of a type, rank or name that no message can carry is refused when the model is loaded, not later."""
    refused(identity(dtype=TensorProto.BFLOAT16))
    refused(identity(dtype=TensorProto.INT4))
    refused(identity(shape=[1] * 9))
    refused(identity(name="x" * 257))


def test_subgraphs_are_models_too() -> None:
    """A loop, whose time no limit on the file bounds, is accepted: deadlines are for that."""
    assert inspect(endless_loop()).inputs[0].name == "x"
