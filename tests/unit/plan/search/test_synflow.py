"""SynFlow without drawing weights: what PyTorch computes with drawn ones, in the mean."""

from __future__ import annotations

import math
import random

import pytest

from sectum import zoo
from sectum.errors import UsageError
from sectum.plan.search.synflow import synflow
from sectum.zoo import space_file


def drawn_synflow(architecture, seed: int) -> float:
    """The published definition: ones through absolute weights, without normalisation, nonlinearities and biases."""
    torch = pytest.importorskip("torch", reason="PyTorch is an extra")
    module = zoo.to_torch(architecture, seed=seed).double()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for part in module.modules():
            if isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
                part.reset_parameters()
                if part.bias is not None:
                    torch.nn.init.zeros_(part.bias)
    for name, part in list(module.named_modules()):
        is_left_out = isinstance(part, torch.nn.BatchNorm2d | torch.nn.LayerNorm) or type(part).__module__.endswith(
            "activation"
        )
        if is_left_out:
            owner, _, last = name.rpartition(".")
            setattr(module.get_submodule(owner), last, torch.nn.Identity())
    with torch.no_grad():
        for weight in module.parameters():
            weight.abs_()
    module(torch.ones(1, *architecture.shapes[0], dtype=torch.float64)).sum().backward()
    weights = [weight for weight in module.parameters() if weight.grad is not None]
    return sum(float((weight.detach() * weight.grad).sum()) for weight in weights)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v2", "squeezenet1_1", "densenet121", "shufflenet_v2_x1_0", "convnext_tiny"]
)
def test_it_is_the_mean_over_drawn_weights(name):
    """The score equals the published definition with drawn weights to a few percent, in networks of all layers."""
    torch = pytest.importorskip("torch", reason="PyTorch is an extra")
    architecture = zoo.network(name, resolution=32, width=0.5)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    drawn = [drawn_synflow(architecture, seed) for seed in range(3)]
    torch.set_num_threads(threads)
    assert synflow(architecture) == pytest.approx(math.log(sum(drawn) / len(drawn)), abs=0.1)


def test_more_depth_and_more_width_score_higher():
    """In one space, a larger network has the higher score; the score is finite however deep the network is."""
    space = space_file.load("resnet")
    small = space.build(space.smallest)
    large = space.build({name: max(choices) for name, choices in space.parameters.items()})
    assert synflow(small) < synflow(large) < math.inf
    assert math.isfinite(synflow(zoo.network("resnet152")))


@pytest.mark.parametrize("family", zoo.families())
def test_every_family_of_the_zoo_has_a_score(family):
    """No layer of the zoo is unknown to it."""
    assert math.isfinite(synflow(zoo.sample(family, random.Random(3))))


def test_other_networks_are_refused():
    """It is computed from the zoo's description only, and says what to use instead."""
    with pytest.raises(UsageError, match="use the objective naswot"):
        synflow("resnet50")
