"""PyTorch modules compute what the emitted ONNX models compute, and can be trained."""

from __future__ import annotations

import copy
import importlib.util
import math
import random
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from sectum import zoo
from sectum.errors import UsageError
from sectum.graph import from_torch
from sectum.ort import coverage
from sectum.zoo import Architecture
from sectum.zoo import layers as ly
from sectum.zoo.architecture import Builder

pytestmark = pytest.mark.slow

Run = Callable[[bytes, int, int], NDArray[np.float32]]

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch is an extra: pip install 'sectum[torch]'"
)

# One of each kind of layer, normalisation and wiring.
TRAINED = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "mobilenet_v3_small", "regnet_y_400mf",
    "resnet18", "shufflenet_v1_g3", "shufflenet_v2_x0_5", "squeezenet1_1", "vgg11_bn",
]  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums are made in one order, whatever the machine."""
    if importlib.util.find_spec("torch") is None:
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _small(name: str) -> Architecture:
    return zoo.network(name, resolution=96 if name.startswith("inception") else 64, width=0.25)


def _affordable(family: str) -> Architecture:
    drawn = (zoo.sample(family, random.Random(seed)) for seed in range(1000))
    return next(arch for arch in drawn if arch.resolution <= 112 and arch.parameters < 30e6)


def _assert_same_outputs(arch: Architecture, run_model: Run, seed: int | None = None) -> None:
    import torch

    expected = run_model(zoo.to_bytes(arch, seed=seed), arch.resolution, 2)
    pictures = np.random.default_rng(1).standard_normal((2, 3, arch.resolution, arch.resolution), dtype=np.float32)
    with torch.no_grad():
        output = zoo.to_torch(arch, seed=seed, like_onnx=True).eval()(torch.from_numpy(pictures))
    np.testing.assert_allclose(output.numpy(), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).mean())


@needs_torch
@pytest.mark.parametrize("name", zoo.names())
def test_a_module_like_its_onnx_model_gives_the_same_outputs(name: str, run_model: Run) -> None:
    """What is trained as a module is the network whose cost was predicted from its ONNX model."""
    _assert_same_outputs(_small(name), run_model)


@needs_torch
@pytest.mark.parametrize("family", zoo.families())
def test_a_random_relative_is_the_same_in_both_forms(family: str, run_model: Run) -> None:
    """Drawn channels, kernels and depths reach both emitters; another seed is another set of weights in both."""
    _assert_same_outputs(_affordable(family), run_model, seed=11)


@needs_torch
@pytest.mark.parametrize("name", zoo.names())
def test_a_module_has_the_parameters_of_its_architecture_under_the_names_of_its_nodes(name: str) -> None:
    """A trained weight can be found in the architecture, and none is lost or added."""
    arch = _small(name)
    expected = {
        f"{node.name}.{role}": shape
        for node in arch.nodes
        for role, shape in node.layer.parameters(arch.inputs(node)).items()
    }
    module = zoo.to_torch(arch)
    assert {key: tuple(value.shape) for key, value in module.named_parameters()} == expected


@needs_torch
@pytest.mark.parametrize("name", TRAINED)
def test_training_from_the_initial_weights_learns_a_handful_of_pictures(name: str) -> None:
    """Gradients reach every weight, statistics are updated, and the loss falls."""
    import torch

    arch = zoo.network(name, resolution=64, width=0.25, classes=4)
    module = zoo.to_torch(arch)
    assert module.training
    generator = torch.Generator().manual_seed(0)
    pictures, labels = torch.randn(4, 3, 64, 64, generator=generator), torch.arange(4)
    before = {key: value.clone() for key, value in module.named_buffers()}
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-3)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(pictures), labels)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * math.log(4), "no better than guessing one of four"
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
    assert all(not torch.equal(value, before[key]) for key, value in module.named_buffers())


@needs_torch
def test_initial_weights_follow_the_seed_alone_and_leave_the_global_random_state() -> None:
    """Training is repeatable, and making a network disturbs nothing else that draws."""
    import torch

    arch = zoo.network("resnet18", width=0.25, seed=3)
    state = torch.get_rng_state()
    first, again, other = zoo.to_torch(arch), zoo.to_torch(arch, seed=3), zoo.to_torch(arch, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    weights = [module.state_dict()["stem.conv.weight"] for module in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@needs_torch
def test_a_module_can_be_copied_and_its_weights_stored_and_loaded() -> None:
    """The module is an ordinary one: deep copies and state dictionaries work."""
    import torch

    arch = zoo.network("mobilenet_v3_small", resolution=32, width=0.25)
    module = zoo.to_torch(arch).eval()
    other = zoo.to_torch(arch, seed=9).eval()
    other.load_state_dict(module.state_dict())
    x = torch.ones(1, 3, 32, 32)
    assert torch.equal(other(x), module(x))
    assert torch.equal(copy.deepcopy(module)(x), module(x))


@needs_torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "convnext_tiny"])
def test_a_module_can_be_read_back_as_a_graph(name: str) -> None:
    """A trained module's cost is predicted by the way that any module's is."""
    import torch

    arch = _small(name)
    graph = from_torch(zoo.to_torch(arch), (torch.zeros(2, 3, 64, 64),)).graph
    assert graph.tensors[graph.outputs[0]].shape == (2, 1000)
    assert not coverage(graph).unsupported
    assert sum(op.type == "Conv" for op in graph.operators) == sum(isinstance(n.layer, ly.Conv) for n in arch.nodes)


@needs_torch
def test_a_layer_without_a_form_in_pytorch_is_not_passed_over() -> None:
    """Whoever adds a layer learns at once that this emitter has to know it."""

    class Unknown(ly.Layer):
        pass

    b = Builder("unknown", "test", 8)
    with pytest.raises(NotImplementedError, match="Unknown"):
        zoo.to_torch(b.finish(b.add(Unknown(), b.input)))


def test_without_pytorch_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks PyTorch is told what to install, and what does without it."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UsageError, match=r"to_onnx.*scripts/setup torch"):
        zoo.to_torch(zoo.network("squeezenet1_1"))
