"""Two networks are told to be the same where they cost the same, and only there."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from sectum import zoo
from sectum.zoo import Architecture
from sectum.zoo import layers as ly
from sectum.zoo.architecture import Builder

# By family and seed, and of the published networks. Measurements are stored by family and seed: where a digest
# changes, they are of another network. New families and networks are added, what is here is never changed.
RECORDED = json.loads((Path(__file__).parent / "recorded_structures.json").read_text())
PUBLISHED = RECORDED.pop("published")


@pytest.mark.parametrize(("family", "seed"), [(family, seed) for family in RECORDED for seed in RECORDED[family]])
def test_a_seed_draws_the_network_that_it_has_always_drawn(family: str, seed: str) -> None:
    """Measurements that are stored by family and seed stay measurements of that network."""
    assert zoo.structure(zoo.sample(family, random.Random(int(seed)))) == RECORDED[family][seed]


def test_a_published_name_builds_what_it_has_always_built() -> None:
    """Measurements that are stored by name stay measurements of that network."""
    assert {name: zoo.structure(zoo.network(name)) for name in PUBLISHED} == PUBLISHED


def test_every_family_and_name_is_recorded_and_no_two_records_are_of_one_structure() -> None:
    """A new family or name needs a record too; published networks and drawn ones all differ."""
    assert set(RECORDED) == set(zoo.families())
    assert set(PUBLISHED) == set(zoo.names())
    digests = [*PUBLISHED.values(), *(digest for seeds in RECORDED.values() for digest in seeds.values())]
    assert len(set(digests)) == len(digests)


def test_name_seed_and_family_do_not_count() -> None:
    """Duplicates are found whatever they are called and whatever weights they would get."""
    arch = zoo.network("resnet18")
    other = replace(arch, name="other", family="other", seed=5, nodes=tuple(
        replace(node, name=f"n{index}") for index, node in enumerate(arch.nodes)
    ))  # fmt: skip
    assert zoo.structure(other) == zoo.structure(arch)
    assert zoo.topology(other) == zoo.topology(arch)


def _forked(*, right_first: bool = False, left: ly.Layer | None = None, swapped: bool = False) -> Architecture:
    """Two convolutions of the input, summed."""
    b = Builder("forked", "test", 8)
    branches = [left or ly.Conv(4, (3, 3), (1, 1), (1, 1)), ly.Conv(4, (1, 1))]
    made: dict[int, int] = {}
    for index in (1, 0) if right_first else (0, 1):
        made[index] = b.add(branches[index], b.input)
    b.add(ly.Flatten(), b.input)  # nobody reads it
    order = (made[1], made[0]) if swapped else (made[0], made[1])
    return b.finish(b.add(ly.Add(), *order))


def test_the_order_of_construction_and_what_nobody_reads_do_not_count() -> None:
    """Branches that were built in another order are the same branches."""
    first, second = _forked(), _forked(right_first=True)
    assert first.nodes != second.nodes
    assert zoo.structure(first) == zoo.structure(second)


@pytest.mark.parametrize(
    "changed",
    [
        ly.Conv(4, (3, 3), (1, 1), (1, 1), bias=True),
        ly.Conv(4, (5, 5), (1, 1), (2, 2)),
        ly.Conv(4, (1, 3), (1, 1), (0, 1)),
        ly.Conv(4, (3, 1), (1, 1), (1, 0)),
    ],
)
def test_attributes_count(changed: ly.Layer) -> None:
    """A bias, or a kernel of another form, is another structure and another topology."""
    assert zoo.structure(_forked(left=changed)) != zoo.structure(_forked())
    assert zoo.topology(_forked(left=changed)) != zoo.topology(_forked())


def test_the_order_of_an_operators_inputs_counts() -> None:
    """Wiring is what a runtime is given: it fuses into the one input or into the other."""
    assert zoo.structure(_forked(swapped=True)) != zoo.structure(_forked())


def test_a_tensor_read_twice_is_not_two_equal_tensors() -> None:
    """Sharing saves a computation, so it is told from repeating it."""

    def doubled(*, shared: bool) -> Architecture:
        b = Builder("doubled", "test", 8)
        x = b.add(ly.Conv(4, (1, 1)), b.input)
        return b.finish(b.add(ly.Add(), x, x if shared else b.add(ly.Conv(4, (1, 1)), b.input)))

    assert zoo.structure(doubled(shared=True)) != zoo.structure(doubled(shared=False))


@pytest.mark.parametrize("arguments", [{"resolution": 192}, {"width": 1.5}, {"classes": 10}])
def test_resolution_width_and_classes_decide_the_structure_but_not_the_topology(arguments: dict[str, float]) -> None:
    """What scales a network leaves it a near relative."""
    arch, scaled = zoo.network("shufflenet_v2_x1_0"), zoo.network("shufflenet_v2_x1_0", **arguments)  # type: ignore[arg-type]
    assert zoo.structure(arch) != zoo.structure(scaled)
    assert zoo.topology(arch) == zoo.topology(scaled)


@pytest.mark.parametrize("name", zoo.names())
def test_no_network_has_another_topology_at_another_resolution(name: str) -> None:
    """Networks that differ by resolution alone never come to lie on two sides of a split."""
    assert len({zoo.topology(zoo.network(name, resolution=resolution)) for resolution in (96, 224, 320)}) == 1


def test_networks_that_differ_in_depth_or_in_groups_by_channel_have_their_own_topology() -> None:
    """Members of a family are told apart, and a depthwise convolution from a full one."""
    assert len({zoo.topology(zoo.network(f"resnet{depth}")) for depth in (18, 34, 50, 101, 152)}) == 5
    digests = set()
    for groups in (1, 8):
        b = Builder("grouped", "test", 8)
        x = b.add(ly.Conv(8, (1, 1)), b.input)
        digests.add(zoo.topology(b.finish(b.add(ly.Conv(8, (3, 3), groups=groups), x))))
    assert len(digests) == 2
