"""Emitted models are valid, deterministic, and compute something in ONNX Runtime."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from sectum import zoo
from sectum.errors import ModelTooLarge
from sectum.zoo.onnx_emitter import LARGEST_MODEL_BYTES

pytestmark = pytest.mark.slow

Run = Callable[[bytes, int, int], NDArray[np.float32]]

SMALL = [
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "mobilenet_v3_small",
    "shufflenet_v1_g3",
    "shufflenet_v2_x0_5",
    "vgg11_bn",
]
LEAST_RESOLUTION = {"alexnet": 64, "alexnet_ungrouped": 64, "inception_v3": 96}


@pytest.mark.parametrize("name", zoo.names())
def test_every_network_runs_and_its_outputs_are_finite_and_depend_on_class_and_picture(
    name: str, run_model: Run
) -> None:
    """Every emitted network runs; its outputs are finite and differ between classes and between pictures."""
    resolution = LEAST_RESOLUTION.get(name, 32)
    output = run_model(zoo.to_bytes(zoo.network(name, resolution=resolution)), resolution, 2)
    assert output.shape == (2, 1000)
    assert np.isfinite(output).all()
    scale = np.abs(output).mean()
    assert 1e-3 < scale < 1e4
    assert output.std(axis=1).min() > 0.1 * scale, "all classes get the same answer"
    assert np.abs(output[0] - output[1]).mean() > 0.005 * scale, "all pictures get the same answer"


@pytest.mark.parametrize("name", SMALL)
def test_a_model_is_valid_onnx_and_has_the_shapes_that_the_architecture_says(name: str) -> None:
    """An emitted model passes ONNX's checker, and ONNX infers the shapes that the zoo's graph has."""
    arch = zoo.network(name, resolution=64, width=0.25)
    model = zoo.to_onnx(arch, batch=3)
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    graph = zoo.to_graph(arch, 3)
    seen = 0
    for info in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        dims = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
        assert graph.tensors[info.name].shape == dims
        seen += 1
    assert seen == len(graph.tensors) - len(model.graph.initializer)


@pytest.mark.parametrize("name", SMALL)
def test_bytes_are_those_that_protobuf_itself_writes(name: str) -> None:
    """The bytes written directly equal those that protobuf writes of the same model."""
    arch = zoo.network(name, resolution=64, width=0.25)
    assert zoo.to_onnx(arch).SerializeToString() == zoo.to_bytes(arch)


@pytest.mark.parametrize("name", [*SMALL, "resnet18", "mobilenet_v2", "squeezenet1_0"])
def test_no_activation_is_dead_or_denormal_and_each_has_the_shape_of_the_graph(name: str) -> None:
    """With the emitted weights every activation has its shape, is mostly alive, and has no denormal or huge value."""
    arch = zoo.network(name, resolution=64)
    model, graph = zoo.to_onnx(arch), zoo.to_graph(arch, 2)
    del model.graph.output[:]
    for output in (output for op in graph.operators for output in op.outputs):
        shape = graph.tensors[output].shape
        model.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, shape))
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    pictures = np.random.default_rng(1).standard_normal((2, 3, 64, 64), dtype=np.float32)
    for info, values in zip(session.get_outputs(), session.run(None, {"input": pictures}), strict=True):
        assert values.shape == graph.tensors[info.name].shape
        alive = np.abs(values[values != 0])
        assert alive.size > 0.1 * values.size, info.name
        assert alive.min() >= np.finfo(np.float32).tiny, info.name
        assert alive.max() < 1e6, info.name


def test_a_written_file_holds_the_same_bytes(tmp_path: Path) -> None:
    """A model written to a file has the same bytes as one made in memory."""
    arch = zoo.network("squeezenet1_1")
    path = tmp_path / "model.onnx"
    zoo.write(arch, path, batch=2)
    assert path.read_bytes() == zoo.to_bytes(arch, batch=2)


def test_weights_follow_the_seed_alone() -> None:
    """The weights follow from the seed, of the architecture or given to the emitter; another seed gives others."""
    arch = zoo.network("squeezenet1_1", seed=1)
    assert zoo.to_bytes(arch) == zoo.to_bytes(arch, seed=1)
    assert zoo.to_bytes(arch) == zoo.to_bytes(zoo.network("squeezenet1_1"), seed=1)
    assert zoo.to_bytes(arch) != zoo.to_bytes(arch, seed=2)


@pytest.mark.parametrize("name", ["shufflenet_v1_g3", "shufflenet_v2_x0_5", "mobilenet_v3_small"])
def test_one_model_with_an_open_batch_serves_every_batch(name: str, run_model: Run) -> None:
    """A model with an open batch gives an image the same output in a batch of one and of three."""
    model = zoo.to_bytes(zoo.network(name, resolution=32))
    three, one = run_model(model, 32, 3), run_model(model, 32, 1)
    np.testing.assert_allclose(three[:1], one, rtol=1e-4, atol=1e-4)


def test_a_given_batch_is_fixed_in_the_model(run_model: Run) -> None:
    """A model with a fixed batch runs that batch and refuses another."""
    model = zoo.to_bytes(zoo.network("mobilenet_v1", resolution=32), batch=2)
    assert run_model(model, 32, 2).shape == (2, 1000)
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument):
        run_model(model, 32, 1)


@pytest.mark.parametrize("name", SMALL)
def test_the_runtime_finds_no_two_weights_to_merge(name: str, tmp_path: Path) -> None:
    """The runtime keeps every weight of an emitted model, since no two are equal."""
    arch = zoo.network(name, resolution=32, width=0.25)
    path = tmp_path / "optimised.onnx"
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.optimized_model_filepath = str(path)
    # The last level before layouts change: padded weights could not be counted.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    ort.InferenceSession(zoo.to_bytes(arch), options, providers=["CPUExecutionProvider"])
    kept = [i for i in onnx.load(path).graph.initializer if math.prod(i.dims) > 8]
    weights = [i for i in zoo.to_onnx(arch).graph.initializer if len(i.dims) in (2, 4)]
    assert not Counter(tuple(i.dims) for i in weights) - Counter(tuple(i.dims) for i in kept)
    assert len({i.raw_data for i in kept}) == len(kept)


def test_no_two_weights_are_equal_and_none_is_constant_or_denormal() -> None:
    """The weights of ResNet-50 are finite, not constant and all different; its variances are close to one."""
    model = zoo.to_onnx(zoo.network("resnet50"))
    arrays = [onnx.numpy_helper.to_array(i) for i in model.graph.initializer]
    assert len({a.tobytes() for a in arrays}) == len(arrays)
    for array in arrays:
        assert np.isfinite(array).all()
        assert array.std() > 1e-4
    for name, array in zip((i.name for i in model.graph.initializer), arrays, strict=True):
        if name.endswith(".variance"):
            assert 0.5 < array.min() <= array.max() < 1.5


def test_rows_of_a_large_matrix_differ() -> None:
    """The rows of AlexNet's largest matrix are all different."""
    model = zoo.to_onnx(zoo.network("alexnet"))
    matrix = max((onnx.numpy_helper.to_array(i) for i in model.graph.initializer), key=np.size)
    assert matrix.shape == (4096, 9216)
    assert len({row.tobytes() for row in matrix}) == 4096


def test_convolution_normalisation_and_activation_stay_apart_unless_folded() -> None:
    """Batch normalisation is an operator of its own, unless it is folded into the convolution before it."""
    arch = zoo.network("resnet50")
    kinds = [node.op_type for node in zoo.to_onnx(arch).graph.node[:3]]
    assert kinds == ["Conv", "BatchNormalization", "Relu"]
    folded = zoo.to_onnx(arch, fold_batch_norm=True)
    assert "BatchNormalization" not in {node.op_type for node in folded.graph.node}
    assert all(len(node.input) == 3 for node in folded.graph.node if node.op_type == "Conv")


@pytest.mark.parametrize("name", SMALL)
def test_a_folded_model_runs_too(name: str, run_model: Run) -> None:
    """A model with folded batch normalisation runs and has finite outputs that are not constant."""
    output = run_model(zoo.to_bytes(zoo.network(name, resolution=32), fold_batch_norm=True), 32, 2)
    assert np.isfinite(output).all()
    assert output.std() > 0


def test_normalisations_without_a_convolution_before_them_survive_folding() -> None:
    """Folding keeps the normalisations of DenseNet-121 that follow no convolution."""
    folded = zoo.to_onnx(zoo.network("densenet121"), fold_batch_norm=True)
    kinds = [node.op_type for node in folded.graph.node]
    assert kinds.count("BatchNormalization") == 62  # before the first convolution of each layer, and the last


def test_a_model_beyond_what_protobuf_holds_is_refused_and_no_file_is_touched(tmp_path: Path) -> None:
    """A model beyond protobuf's limit is refused before its file is opened."""
    arch = zoo.network("vgg19", width=4.0)
    assert arch.parameters * 4 > LARGEST_MODEL_BYTES
    path = tmp_path / "model.onnx"
    path.write_bytes(b"kept")
    with pytest.raises(ModelTooLarge, match="smaller width"):
        zoo.write(arch, path)
    assert path.read_bytes() == b"kept"
