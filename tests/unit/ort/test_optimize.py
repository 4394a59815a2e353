"""`optimize` is held against what ONNX Runtime itself writes down as the graph that it executes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx import TensorProto, helper, numpy_helper

from kinds_of_models import KINDS, build
from observed import optimized_by_runtime
from places import LIGHT
from sectum import zoo
from sectum.errors import ModelMalformed, ShapeUnbound, UsageError
from sectum.graph import Graph, Operator, read
from sectum.ort import rewrites
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.ort.optimized import OptimizedGraph

LIGHT_NAMES = (
    "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet", "vgg19",
    "zfnet512",
)  # fmt: skip

Signature = tuple[str, tuple[tuple[int, ...], ...], tuple[int, ...], object]


def machine_block() -> int:
    """Floats in a block of NCHWc on this machine, as the runtime itself shows it on one small convolution."""
    small = Sketch((1, 64, 4, 4))
    made = optimized_by_runtime(small.model(small.conv("x", 64, 4)))
    (shape,) = [made.tensors[op.outputs[0]].shape for op in made.operators if op.type == "Conv"]
    return {8: 8, 16: 16}.get(shape[1], 1)


def signature(graph: Graph, op: Operator) -> Signature:
    """What an operator is, what it makes and what it reads, without names."""
    shapes = tuple(graph.tensors[name].shape for name in op.outputs if name)
    weights = tuple(sorted(weight.n_bytes for weight in graph.weights(op)))
    return op.qualified_type, shapes, weights, op.attributes.get("activation")


def signatures(graph: Graph) -> list[Signature]:
    return [signature(graph, op) for op in graph.operators]


def shapes(graph: Graph) -> list[tuple[str, tuple[tuple[int, ...], ...]]]:
    """What operators are and what they make, without names and weights."""
    return [signature(graph, op)[:2] for op in graph.operators]


class Sketch:
    """A small network, written operator by operator."""

    def __init__(self, shape: tuple[int, ...], opset: int = 17) -> None:
        self.shape, self.opset = shape, opset
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(0)

    def weight(self, *shape: int) -> str:
        """Declare normally distributed weights."""
        return self.constant(self.random.standard_normal(shape).astype(np.float32))

    def constant(self, value: object) -> str:
        """Declare a constant."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        """Append an operator and name its result."""
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def conv(self, x: str, c_in: int, c_out: int, k: int = 3, groups: int = 1) -> str:
        """Append a convolution that keeps height and width."""
        weights = self.weight(c_out, c_in // groups, k, k), self.weight(c_out)
        return self.op("Conv", x, *weights, kernel_shape=[k, k], pads=[k // 2] * 4, group=groups)

    def norm(self, x: str, channels: int) -> str:
        """Append a batch normalisation."""
        ones = self.constant(np.ones(channels, np.float32))
        return self.op("BatchNormalization", x, *(self.weight(channels) for _ in range(3)), ones)

    def model(self, output: str) -> bytes:
        """Serialise the network."""
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        y = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "sketch", [x], [y], self.weights)
        opset = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def _hard_swish(s: Sketch, x: str) -> str:
    return s.op("Mul", x, s.op("HardSigmoid", x, alpha=1 / 6))


def _silu(s: Sketch, x: str) -> str:
    return s.op("Mul", x, s.op("Sigmoid", x))


def _gelu(s: Sketch, x: str) -> str:
    scalar = [s.constant(np.float32(v)) for v in (2**0.5, 1, 0.5)]
    one = s.op("Add", s.op("Erf", s.op("Div", x, scalar[0])), scalar[1])
    return s.op("Mul", s.op("Mul", x, one), scalar[2])


def _squeeze_excite(s: Sketch, x: str) -> str:
    y = _silu(s, s.conv(x, 16, 16))
    gate = s.op("Relu", s.conv(s.op("GlobalAveragePool", y), 16, 8, 1))
    return s.conv(s.op("Mul", s.op("Sigmoid", s.conv(gate, 8, 16, 1)), y), 16, 16)


def _residual(s: Sketch, x: str) -> str:
    y = s.op("Relu", s.norm(s.conv(x, 16, 16), 16))
    return s.op("Relu", s.op("Add", y, s.norm(s.conv(y, 16, 16), 16)))


def _plain_residual(s: Sketch, x: str) -> str:
    y = s.conv(x, 16, 16, groups=4)
    return s.op("Flatten", s.op("Relu", s.op("Add", y, s.conv(y, 16, 16, groups=4))))


def _linear_nhwc(s: Sketch, x: str) -> str:
    y = s.op("Transpose", s.conv(x, 16, 16), perm=[0, 2, 3, 1])
    y = s.op("LayerNormalization", y, s.weight(16), s.weight(16))
    return s.op("Add", s.op("MatMul", _gelu(s, y), s.weight(16, 12)), s.weight(12))


def _channel_scale(s: Sketch, x: str) -> str:
    return s.conv(s.op("Mul", s.op("Relu", s.conv(x, 16, 12)), s.weight(12, 1, 1)), 12, 16)


def _broadcast_add(s: Sketch, x: str) -> str:
    y = s.op("Relu", s.conv(x, 16, 16))
    return s.conv(s.op("Add", s.conv(s.op("GlobalAveragePool", y), 16, 16, 1), y), 16, 16)


def _unaligned_concat(s: Sketch, x: str) -> str:
    y = s.conv(x, 16, 8)
    return s.op("Concat", y, s.conv(y, 8, 12), axis=1)


def _norm_after_concat(s: Sketch, x: str) -> str:
    y = s.conv(x, 16, 8)
    return s.conv(s.op("Relu", s.norm(s.op("Concat", y, s.conv(y, 8, 8), axis=1), 16)), 16, 16)


def _classifier(s: Sketch, x: str) -> str:
    y = s.op("Dropout", s.op("Flatten", s.op("GlobalAveragePool", s.op("Clip", s.op("Relu", s.conv(x, 16, 16))))))
    return s.op("Relu", s.op("Gemm", y, s.weight(10, 16), s.weight(10), transB=1))


def _upsample(s: Sketch, x: str) -> str:
    scales = s.constant(np.array([1, 1, 2, 2], np.float32))
    how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor", "mode": "nearest"}
    return s.op("Resize", s.conv(x, 16, 16), "", scales, **how)


def _padded(s: Sketch, x: str) -> str:
    return s.conv(s.op("Pad", x, s.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1]))), 16, 16)


def _written_out_norm(s: Sketch, x: str) -> str:
    y = s.op("Transpose", s.conv(x, 16, 16), perm=[0, 2, 3, 1])
    centred = s.op("Sub", y, s.op("ReduceMean", y, axes=[-1]))
    variance = s.op("ReduceMean", s.op("Pow", centred, s.constant(np.float32(2))), axes=[-1])
    deviation = s.op("Sqrt", s.op("Add", variance, s.constant(np.float32(1e-5))))
    return s.op("Add", s.op("Mul", s.op("Div", centred, deviation), s.weight(16)), s.weight(16))


def _linear_norm(s: Sketch, x: str) -> str:
    return s.norm(s.op("MatMul", s.op("Flatten", x), s.weight(1024, 10)), 10)


def _resize_to(s: Sketch, x: str) -> str:
    sizes = s.constant(np.array([1, 16, 16, 16]))
    how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor", "mode": "nearest"}
    return s.op("Resize", s.conv(x, 16, 16), "", "", sizes, **how)


def _transposes_that_meet(s: Sketch, x: str) -> str:
    left = s.op("Transpose", s.op("LRN", x, size=3), perm=[0, 3, 1, 2])
    return s.op("LRN", s.op("Add", left, s.op("Transpose", x, perm=[0, 3, 1, 2])), size=3)


def _shared_relu(s: Sketch, x: str) -> str:
    y = s.conv(x, 16, 16)
    return s.op("Add", s.op("Relu", y), y)


def _equal_twice(s: Sketch, x: str) -> str:
    y = s.conv(x, 16, 12)
    return s.op("Mul", s.op("Elu", y), s.op("Elu", y))


STRUCTURES: dict[str, Callable[[Sketch, str], str]] = {
    "hard swish": lambda s, x: s.conv(_hard_swish(s, s.conv(x, 16, 16)), 16, 16),
    "hard swish operator": lambda s, x: s.op("Flatten", s.op("HardSwish", s.conv(x, 16, 16))),
    "hard swish without convolution": lambda s, x: s.op("Flatten", _hard_swish(s, x)),
    "hard swish as output": lambda s, x: _hard_swish(s, s.conv(x, 16, 16)),
    "silu": lambda s, x: s.conv(_silu(s, s.conv(x, 16, 12)), 12, 16),
    "gelu": lambda s, x: s.conv(_gelu(s, s.conv(x, 16, 16)), 16, 16),
    "squeeze and excite": _squeeze_excite,
    "residual": _residual,
    "residual in the plain layout": _plain_residual,
    "linear on channels last": _linear_nhwc,
    "constant channel scale": _channel_scale,
    "broadcast add": _broadcast_add,
    "unaligned concat": _unaligned_concat,
    "normalisation after concat": _norm_after_concat,
    "classifier": _classifier,
    "upsample": _upsample,
    "global pool of an input": lambda s, x: s.op("Flatten", s.op("GlobalAveragePool", x)),
    "global maximum of an input": lambda s, x: s.op("Flatten", s.op("GlobalMaxPool", x)),
    "global pool of what is not blocked": lambda s, x: s.op("Flatten", s.op("GlobalAveragePool", s.op("Neg", x))),
    "pad": _padded,
    "pool behind a pad": lambda s, x: s.op(
        "MaxPool", s.op("Pad", x, s.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1]))), kernel_shape=[3, 3]
    ),
    "scale of one element": lambda s, x: s.op("Flatten", s.op("Mul", s.conv(x, 16, 10), s.weight(1))),
    "normalisation written out": _written_out_norm,
    "normalisation of a product": _linear_norm,
    "resize to a size": _resize_to,
    "transposes that meet": _transposes_that_meet,
    "mish": lambda s, x: s.op("Mul", y := s.conv(x, 16, 16), s.op("Tanh", s.op("Softplus", y))),
    "shared relu": _shared_relu,
    "equal twice": _equal_twice,
    "unaligned input": lambda s, x: s.conv(s.conv(x, 16, 10), 10, 16),
    "padded channels": lambda s, x: s.conv(s.op("Relu", s.conv(x, 16, 20)), 20, 12),
    "leaky relu": lambda s, x: s.op("LeakyRelu", s.conv(x, 16, 16)),
    "elu": lambda s, x: s.conv(s.op("Elu", s.conv(x, 16, 16)), 16, 16),
    "depthwise": lambda s, x: s.conv(s.conv(x, 16, 16, 5, groups=16), 16, 16, 1),
    "grouped": lambda s, x: s.conv(x, 16, 32, groups=2),
}


@pytest.fixture(scope="module")
def cpu() -> Cpu:
    return Cpu.of_block(machine_block())


def test_the_machines_block_is_the_runtimes(cpu: Cpu) -> None:
    """The block size read off the processor's features is the one that the runtime uses."""
    assert Cpu.here().without_amx is cpu


def assert_equal(model_bytes: bytes, graph: Graph, cpu: Cpu) -> tuple[OptimizedGraph, OptimizedGraph]:
    truth = optimized_by_runtime(model_bytes)
    made = optimize(graph, cpu)
    assert Counter(signatures(made)) == Counter(signatures(truth))
    return made, truth


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_rewritten_as_the_runtime_does(kind: str, tmp_path: Path, cpu: Cpu) -> None:
    """Recurrent, quantised, one- and three-dimensional networks and transformers run the expected operators."""
    path = tmp_path / "model.onnx"
    path.write_bytes(build(kind))
    model = read(path)
    truth = optimized_by_runtime(model.bound_bytes())
    assert Counter(shapes(optimize(model.graph, cpu))) == Counter(shapes(truth))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "batch"), [*((name, 1) for name in LIGHT_NAMES), ("squeezenet", 4), ("shufflenet", 4)]
)
def test_light_models_are_rewritten_as_the_runtime_does(name: str, batch: int, cpu: Cpu) -> None:
    """Every operator, every physical shape, every padded weight, and the sum of the weights that remain."""
    model = read(LIGHT / f"light_{name}.onnx", batch=batch)
    made, truth = assert_equal(model.bound_bytes(), model.graph, cpu)
    assert made.weight_bytes == truth.weight_bytes


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bvlc_alexnet", "densenet121", "inception_v1", "resnet50", "squeezenet"])
def test_the_order_of_execution_is_the_runtimes(name: str, cpu: Cpu) -> None:
    """Where no two conversions of layout feed one operator, the runtime's order is fixed, and is predicted."""
    model = read(LIGHT / f"light_{name}.onnx")
    assert signatures(optimize(model.graph, cpu)) == signatures(optimized_by_runtime(model.bound_bytes()))


def _small(name: str) -> zoo.Architecture:
    try:
        return zoo.network(name, resolution=96 if name.startswith("inception") else 64, width=0.25)
    except UsageError:  # a network without a width
        return zoo.network(name, resolution=64)


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.names())
def test_zoo_networks_are_rewritten_as_the_runtime_does(name: str, cpu: Cpu) -> None:
    """For every zoo network the optimized graph has the operators, shapes and weights of the runtime's own."""
    model_bytes = zoo.to_bytes(_small(name), batch=1)
    assert_equal(model_bytes, read(model_bytes).graph, cpu)


@pytest.mark.slow
@pytest.mark.parametrize("family", zoo.families())
def test_random_relatives_are_rewritten_as_the_runtime_does(family: str, cpu: Cpu) -> None:
    """Channel counts that are no multiple of anything take other paths than the published networks."""
    drawn = (zoo.sample(family, random.Random(seed)) for seed in range(50))
    architecture = next(a for a in drawn if a.parameters < 20_000_000)
    model_bytes = zoo.to_bytes(architecture, batch=1)
    assert_equal(model_bytes, read(model_bytes).graph, cpu)


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_are_rewritten_as_the_runtime_does(name: str, cpu: Cpu) -> None:
    """Each structure that the runtime treats in a way of its own is rewritten as the runtime does."""
    sketch = Sketch((1, 16, 8, 8))
    model_bytes = sketch.model(STRUCTURES[name](sketch, "x"))
    assert_equal(model_bytes, read(model_bytes).graph, cpu)


def test_equal_recipes_of_weights_are_merged(cpu: Cpu) -> None:
    """Light VGG-19 computes its weights; the runtime keeps one of each shape: 513 MB of 575 MB."""
    graph = read(LIGHT / "light_vgg19.onnx").graph
    assert graph.weight_bytes - optimize(graph, cpu).weight_bytes > 60_000_000


def test_channels_are_padded_to_the_block() -> None:
    """On AVX-512 a block has 16 floats: 20 channels take the memory of 32."""
    sketch = Sketch((1, 16, 8, 8))
    graph = read(sketch.model(sketch.conv("x", 16, 20))).graph
    for cpu, channels in ((Cpu.AVX2, 24), (Cpu.AVX512, 32)):
        made = optimize(graph, cpu)
        (conv,) = [op for op in made.operators if op.type == "Conv"]
        assert made.tensors[conv.outputs[0]].shape == (1, channels, 8, 8)
        assert [w.shape for w in made.weights(conv)] == [(channels, 16, 3, 3), (channels,)]


def test_without_vector_units_the_layout_stays() -> None:
    """Without vector units a convolution keeps the plain layout and is still fused with its ReLU."""
    sketch = Sketch((1, 16, 8, 8))
    graph = read(sketch.model(sketch.op("Relu", sketch.conv("x", 16, 20)))).graph
    made = optimize(graph, Cpu.SSE)
    assert [op.qualified_type for op in made.operators] == ["com.microsoft:FusedConv"]


def test_the_file_graph_is_left_as_it_was() -> None:
    """Optimizing a graph does not change the graph that was read."""
    graph = read(LIGHT / "light_squeezenet.onnx").graph
    before = (graph.operators, dict(graph.tensors))
    optimize(graph, Cpu.AVX2)
    assert (graph.operators, dict(graph.tensors)) == before


def test_an_unknown_block_is_refused() -> None:
    """A block that no CPU has is a mistake of the caller."""
    with pytest.raises(UsageError, match="expected one of"):
        Cpu.of_block(4)


def test_what_the_runtime_refuses_is_malformed() -> None:
    """A model that the runtime refuses to load is a malformed model."""
    with pytest.raises(ModelMalformed, match="refuses the model"):
        optimized_by_runtime(b"not a model")


def test_a_free_dimension_is_named() -> None:
    """Asking the runtime for a graph with a free dimension is an error that names it."""
    model_bytes = zoo.to_bytes(_small("squeezenet1_1"), batch=None)
    with pytest.raises(ShapeUnbound, match="dimensions"):
        optimized_by_runtime(model_bytes)


def test_a_free_dimension_can_be_bound() -> None:
    """With its free dimension bound, every tensor of the runtime's graph has that batch."""
    model_bytes = zoo.to_bytes(_small("squeezenet1_1"), batch=None)
    made = optimized_by_runtime(model_bytes, dimensions={"N": 3})
    assert {made.tensors[name].shape[0] for op in made.operators for name in op.outputs} == {3}


@pytest.mark.slow
def test_a_pass_that_is_left_out_would_have_changed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no operator is there that a pass needs beside its first one, the pass would have changed nothing."""
    rng = random.Random(5)
    graphs = [zoo.to_graph(zoo.sample(family, rng)) for family in (*zoo.families(), *zoo.program_families())]
    made = [optimize(graph, Cpu.AVX512) for graph in graphs]
    for level in ("_LEVEL_1", "_LEVEL_2", "_LEVEL_2_AFTER_SPLITS"):
        every = [one._replace(beside=frozenset()) for one in getattr(rewrites, level)]
        monkeypatch.setattr(rewrites, level, tuple(every))
    assert [optimize(graph, Cpu.AVX512) for graph in graphs] == made
