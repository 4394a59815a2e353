"""No near relative of a network that is predicted was learned from."""

from __future__ import annotations

import numpy as np
import pytest

from measured_networks import DATASET, made_up, made_up_run
from sectum.lab.dataset.dataset import read
from sectum.lab.evaluation.truth import truth
from sectum.lab.learners.splits import leave_family_out, random_folds, relatives
from sectum.units import MIB


def test_relatives_of_relatives_are_one_group():
    """Equal structure joins two networks, equal topology a third; a fourth stays alone."""
    networks = [
        made_up(0, structure="same"),
        made_up(1, structure="same", topology="alike"),
        made_up(2, topology="alike"),
        made_up(3),
    ]
    groups = relatives(networks)
    assert len(set(groups[:3].tolist())) == 1
    assert groups[3] not in groups[:3]


@pytest.mark.slow
def test_the_stored_dataset_is_split_without_relatives_on_both_sides():
    """On the real networks: no structure and no topology is on both sides of any fold of either split."""
    pytest.importorskip("pyarrow", reason="shards are Parquet: install sectum[train]")
    columns = ("key", "family", "structure", "topology", "error")
    rows = [row for row in read(DATASET, columns) if not row["error"]]
    networks = [made_up(number, **{name: row[name] for name in columns[:-1]}) for number, row in enumerate(rows)]
    for folds in (random_folds(networks), leave_family_out(networks)):
        assert len(folds) >= 5
        for fold in folds:
            train, test = ([networks[index] for index in side] for side in (fold.train, fold.test))
            assert not {n.structure for n in train} & {n.structure for n in test}
            assert not {n.topology for n in train} & {n.topology for n in test}
            assert not any(n.is_repeat for n in (*train, *test))


def test_a_family_left_out_takes_its_relatives_along():
    """A network of another family with the same topology is not learned from when the family is predicted."""
    networks = [made_up(0, family="vgg"), made_up(1, family="resnet", topology="t0"), made_up(2, family="resnet")]
    (resnet, vgg) = leave_family_out([*networks, made_up(3, family="vgg")])
    assert vgg.name == "vgg"
    assert vgg.test == (0, 3)
    assert vgg.train == (2,)
    assert resnet.train == (3,)


def test_families_are_spread_over_folds():
    """Each fold predicts every family, where there are enough of it."""
    networks = [made_up(i, family=("vgg", "resnet", "alexnet")[i % 3]) for i in range(60)]
    for fold in random_folds(networks):
        assert len(fold.test) == 12
        assert {networks[index].family for index in fold.test} == {"vgg", "resnet", "alexnet"}


def test_repeats_are_in_no_fold_and_no_case():
    """A second measurement judges the labels, not the learners."""
    networks = [made_up(i) for i in range(10)] + [made_up(3, key="alexnet/3/b1#1")]
    assert all(10 not in (*fold.train, *fold.test) for fold in random_folds(networks))
    assert 10 not in truth(networks).network


def test_cases_are_native_first_and_know_their_regime():
    """The table's lines are the network's places in order, with the regime that was measured."""
    cases = truth([made_up(0), made_up(1)])
    assert cases.run.tolist() == [-1, 0, 1, -1, 0, 1]
    assert cases.regime.tolist() == [0, 1, 2, 0, 1, 2]
    assert cases.epc_ratio.tolist() == [0, 0.5, 2, 0, 0.5, 2]


def test_boundary_is_from_four_fifths_to_five_quarters():
    """Working sets of 0.8 and 1.25 times the EPC are in it, those outside are not."""
    sizes = [int(10 * MIB / ratio) for ratio in (0.79, 0.81, 1.24, 1.26)]
    cases = truth([made_up(0, runs=tuple(made_up_run(size) for size in sizes))])
    assert cases.boundary.tolist() == [False, False, True, True, False]


def test_groups_are_numbered_from_zero():
    """Numbers can index arrays."""
    groups = relatives([made_up(i) for i in range(5)])
    assert np.array_equal(groups, np.arange(5))
