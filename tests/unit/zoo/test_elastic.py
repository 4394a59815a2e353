"""Elastic spaces: what is shipped, and what is made of choices."""

from __future__ import annotations

import random

import pytest

from sectum import zoo
from sectum.errors import UsageError
from sectum.zoo import space_file
from sectum.zoo.elastic import Block, Head, Space, Stage, Stem
from sectum.zoo.layers import Conv, Nonlinearity


def drawn(space: Space, rng: random.Random) -> dict:
    """One choice for each parameter."""
    return {name: rng.choice(choices) for name, choices in space.parameters.items()}


@pytest.mark.parametrize("name", space_file.names())
def test_shipped_spaces_make_networks_of_every_corner(name):
    """The smallest, the largest and random networks of each space can be laid out, and are told apart by name."""
    space, rng = space_file.load(name), random.Random(1)
    largest = {of: max(choices) for of, choices in space.parameters.items()}
    chosen = [space.smallest, largest, *(drawn(space, rng) for _ in range(4))]
    made = [space.build(one) for one in chosen]
    assert len({one.name for one in made}) == len({tuple(sorted(one.items())) for one in chosen})
    for one in made:
        graph = zoo.to_graph(one, 1)
        assert graph.tensors[graph.outputs[0]].shape == (1, space.classes)
    assert made[0].parameters < made[1].parameters


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3", "resnet"])
def test_at_least_three_families_are_elastic_in_depth_width_kernel_expansion_and_resolution(name):
    """What a search may choose in a family of the zoo."""
    parameters = space_file.load(name).parameters
    assert {"resolution", "width"} <= parameters.keys()
    assert {"depth", "kernel", "expansion"} <= {of.partition(".")[2] for of in parameters}


def test_the_largest_resnet_with_kernels_of_three_is_resnet_50():
    """The space reaches the published network, operator for operator."""
    space = space_file.load("resnet")
    chosen = {name: max(choices) for name, choices in space.parameters.items()}
    chosen |= {name: 3 for name in chosen if name.endswith(".kernel") and name != "stem.kernel"}
    made, published = space.build(chosen), zoo.network("resnet50")
    assert made.parameters == published.parameters
    assert sorted(map(repr, made.shapes)) == sorted(map(repr, published.shapes))


def tiny(stage: Stage, **options) -> Space:
    return Space("tiny", Stem((8,), stride=1), (stage,), resolution=(16,), classes=4, **options)


@pytest.mark.parametrize(
    ("stage", "convolutions"),
    [
        (Stage(Block.PLAIN, (16,), kernel=(5,)), [(16, 5, 1)]),
        (Stage(Block.SEPARABLE, (16,)), [(8, 3, 8), (16, 1, 1)]),
        (Stage(Block.RESIDUAL, (16,)), [(16, 3, 1), (16, 3, 1), (16, 1, 1)]),
        (Stage(Block.BOTTLENECK, (16,), expansion=(4,)), [(16, 1, 1), (16, 3, 1), (64, 1, 1), (64, 1, 1)]),
        (Stage(Block.INVERTED, (16,), expansion=(3,)), [(24, 1, 1), (24, 3, 24), (16, 1, 1)]),
        (Stage(Block.INVERTED, (16,), squeeze=4), [(8, 3, 8), (8, 1, 1), (8, 1, 1), (16, 1, 1)]),
    ],
    ids=lambda value: value.block if isinstance(value, Stage) else "",
)
def test_a_block_is_wired_as_it_says(stage, convolutions):
    """Each kind of block has the convolutions of its description: channels, kernel and groups."""
    made = tiny(stage).build({})
    found = [(n.layer.out_channels, n.layer.kernel[0], n.layer.groups) for n in made.nodes if isinstance(n.layer, Conv)]
    assert found[1:] == convolutions


def test_choices_do_what_they_say():
    """Depth repeats blocks, the stride is that of the first, and width multiplies all channels."""
    stage = Stage(Block.PLAIN, (16,), depth=(1, 3), stride=2, activation=Nonlinearity.HARD_SWISH)
    space = tiny(stage, width=(1, 2), head=Head(channels=32, hidden=24))
    small, large = (space.build({"stage1.depth": depth, "width": width}) for depth, width in ((1, 1), (3, 2)))
    convolutions = [[n for n in made.nodes if isinstance(n.layer, Conv)] for made in (small, large)]
    assert [n.layer.out_channels for n in convolutions[0]] == [8, 16, 32]
    assert [n.layer.out_channels for n in convolutions[1]] == [16, 32, 32, 32, 64]
    assert [n.layer.stride for n in convolutions[1]] == [(1, 1), (2, 2), (1, 1), (1, 1), (1, 1)]
    assert space.count == 4


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({}, "'stage1.depth' is missing: choose one of 1, 2"),
        ({"stage1.depth": 3}, "'stage1.depth' is 3: choose one of 1, 2"),
        ({"stage1.depth": 1, "colour": 3}, "no parameter 'colour': it has stage1.depth"),
    ],
)
def test_choices_that_the_space_does_not_have_are_refused(chosen, message):
    """A typing error in a parameter makes no other network."""
    with pytest.raises(UsageError, match=message):
        tiny(Stage(Block.PLAIN, (16,), depth=(1, 2))).build(chosen)
