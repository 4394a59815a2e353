"""Random relatives: always valid, the same for the same seed, and on their family's grid."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from sectum import zoo
from sectum.ort import cost
from sectum.zoo import Architecture
from sectum.zoo.catalogue import _sampled
from sectum.zoo.families.nasbench201 import live
from sectum.zoo.layers import Add, ChannelShuffle, Concat, Conv, Gate, Linear

Run = Callable[[bytes, int, int], NDArray[np.float32]]

SAMPLES = 3
RECIPE = {
    "alexnet", "vgg", "densenet", "resnet", "squeezenet", "googlenet", "mobilenet_v1", "mobilenet_v2",
    "mobilenet_v3", "shufflenet_v2", "mnasnet", "proxylessnas", "nasbench201",
}  # fmt: skip
SINCE = {"efficientnet", "regnet", "convnext", "inception"}
# As old as the recipe, but not in it.
UNLISTED = {"shufflenet_v1"}
# Of no published kind.
INVENTED = {"mixed"}
# ConvNeXt cuts the picture and its feature maps into patches; stems of the mixed do, too.
FIXED_KERNELS = {"convnext": {2, 4}, "mixed": {2, 4}}


def test_the_families_are_the_thirteen_of_the_recipe_and_six_beside_it() -> None:
    """Everything that is published in the zoo has random relatives, and the recipe of nn-Meter is complete."""
    assert set(zoo.families()) == RECIPE | SINCE | UNLISTED | INVENTED
    assert {zoo.network(name).family for name in zoo.names()} <= set(zoo.families())


@pytest.mark.slow
@pytest.mark.parametrize("family", zoo.families())
def test_random_relatives_run_with_finite_outputs_that_depend_on_the_class(family: str, run_model: Run) -> None:
    """Random networks of every family run; their outputs are finite and differ between classes."""
    found, kind = 0, _sampled()[family]
    for seed in range(1000):
        arch = zoo.sample(family, random.Random(seed))
        if arch.resolution > max(64, kind.least_resolution + 31) or arch.parameters > 40e6:
            continue
        output = run_model(zoo.to_bytes(arch), arch.resolution, 2)
        assert np.isfinite(output).all(), f"{family} from seed {seed}"
        assert output.std(axis=1).min() > 0, f"{family} from seed {seed}"
        found += 1
        if found == SAMPLES:
            return
    pytest.fail("too few small samples")


@pytest.mark.parametrize("family", zoo.families())
def test_the_same_seed_gives_the_same_network_and_another_seed_another(family: str) -> None:
    """The same seed gives the same random network, another seed another."""
    first, again, other = (zoo.sample(family, random.Random(seed)) for seed in (7, 7, 8))
    assert first == again
    assert first.nodes != other.nodes


@pytest.mark.slow
@pytest.mark.parametrize("family", zoo.families())
def test_many_relatives_are_all_valid_architectures_of_drawn_resolution(family: str) -> None:
    """Sixty draws of a family are valid and vary in resolution and in parameters."""
    rng = random.Random(3)
    made = [zoo.sample(family, rng) for _ in range(60)]
    if family == "nasbench201":
        assert {arch.resolution for arch in made} == {32}
    else:
        least = max(32, _sampled()[family].least_resolution)
        assert all(least <= arch.resolution <= 224 and arch.resolution % 16 == 0 for arch in made)
        assert len({arch.resolution for arch in made}) > 5
        assert len({arch.parameters for arch in made}) > 55


@pytest.mark.parametrize("family", sorted(set(zoo.families()) - {"nasbench201"}))
def test_spatial_kernels_are_drawn_from_the_familys_list(family: str) -> None:
    """Kernel sizes come from the family's list, and all of the list are drawn."""
    rng = random.Random(5)
    allowed = set(_sampled()[family].grid.kernels)
    drawn = set()
    for _ in range(30):
        nodes = zoo.sample(family, rng).nodes
        drawn |= {node.layer.kernel[0] for node in nodes if isinstance(node.layer, Conv)}
    assert allowed <= drawn <= allowed | {1} | FIXED_KERNELS.get(family, set())


@pytest.mark.parametrize("family", ["alexnet", "vgg"])
def test_both_heads_are_drawn(family: str) -> None:
    """AlexNet's and VGG's relatives have either one dense layer or three."""
    rng = random.Random(0)
    heads = {sum(isinstance(node.layer, Linear) for node in zoo.sample(family, rng).nodes) for _ in range(20)}
    assert heads == {1, 3}


def test_a_numpy_generator_draws_too() -> None:
    """A numpy generator can be given in place of Python's, and draws the same network from the same seed."""
    first = zoo.sample("resnet", np.random.default_rng(4))
    assert first == zoo.sample("resnet", np.random.default_rng(4))


def test_a_sample_carries_the_seed_of_its_weights_in_its_name() -> None:
    """The name of a random network ends with the seed of its weights."""
    arch = zoo.sample("mnasnet", random.Random(0))
    assert arch.name == f"mnasnet_{arch.seed:08x}"


def test_edges_that_do_not_connect_input_and_output_are_dropped() -> None:
    """Edges of a NAS-Bench-201 cell that are on no path from input to output are left out."""
    none, skip, conv = "none", "skip_connect", "nor_conv_3x3"
    # Node 1 is reached but leads nowhere; node 2 leads to the output but is not reached.
    cell = ((0, 1, conv), (0, 2, none), (1, 2, none), (0, 3, skip), (1, 3, none), (2, 3, conv))
    assert live(cell) == ((0, 3, skip),)
    assert live(tuple((a, b, none) for a, b in pairwise(range(4)))) == ()


@pytest.mark.parametrize(
    ("family", "trait"),
    [
        ("efficientnet", lambda arch: sum(isinstance(node.layer, Gate) for node in arch.nodes)),
        ("regnet", lambda arch: any(isinstance(node.layer, Gate) for node in arch.nodes)),
        ("regnet", lambda arch: sum(isinstance(node.layer, Add) for node in arch.nodes)),
        ("regnet", lambda arch: {n.layer.groups for n in arch.nodes if isinstance(n.layer, Conv)}),
        ("convnext", lambda arch: sum(isinstance(node.layer, Add) for node in arch.nodes)),
        ("shufflenet_v1", lambda arch: {n.layer.groups for n in arch.nodes if isinstance(n.layer, ChannelShuffle)}),
        ("inception", lambda arch: any(isinstance(node.layer, Add) for node in arch.nodes)),
        ("inception", lambda arch: sum(isinstance(node.layer, Concat) for node in arch.nodes)),
    ],
)
def test_what_a_family_draws_beside_its_grid_differs_between_relatives(
    family: str, trait: Callable[[Architecture], object]
) -> None:
    """Depth, squeeze-and-excitation, groups and sums are drawn, not only channels and kernels."""
    rng = random.Random(2)
    assert len({str(trait(zoo.sample(family, rng))) for _ in range(20)}) > 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "half_above_gflop"), [*((family, 0.2) for family in sorted(SINCE)), ("shufflenet_v1", 0.05)]
)
def test_most_relatives_cost_less_than_five_gflop(family: str, half_above_gflop: float) -> None:
    """A campaign spends its time on many networks: few relatives are heavy, few are trifles, and they spread."""
    graphs = [zoo.to_graph(zoo.sample(family, random.Random(seed))) for seed in range(40)]
    gflops = sorted(sum(cost(op, graph).flops for op in graph.operators) / 1e9 for graph in graphs)
    assert gflops[30] < 5
    assert gflops[20] > half_above_gflop
    assert gflops[35] > 5 * gflops[4]


@pytest.mark.parametrize("family", zoo.families())
def test_an_architecture_travels_whole(family: str) -> None:
    """What arrives in another process is equal to what was sent, though equal layers are sent once."""
    sent = zoo.sample(family, random.Random(5))
    assert pickle.loads(pickle.dumps(sent)) == sent
