"""Splits and figures, whatever the networks and errors."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from measured_networks import made_up
from sectum.lab.evaluation.metrics import Judged, detector_figures, latency_figures
from sectum.lab.learners.splits import fold_numbers, leave_family_out, random_folds, relatives

networks = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 3), st.booleans()), min_size=1, max_size=40
).map(
    lambda drawn: [
        made_up(
            number,
            structure=f"s{structure}",
            topology=f"t{topology}",
            family=f"f{family}",
            key=f"{number}{'#1' if again else ''}",
        )
        for number, (structure, topology, family, again) in enumerate(drawn)
    ]
)
positive = st.floats(0.01, 1e6)
rows = st.lists(
    st.tuples(positive, positive, st.booleans(), st.floats(0, 1), st.integers(0, 5)), min_size=1, max_size=30
)


@given(networks, st.integers(2, 7), st.integers(0, 5))
def test_folds_part_networks_but_never_relatives(drawn, folds, seed):
    """Each network that is no repeat is predicted at most once, and relatives are on one side."""
    groups = relatives(drawn)
    split = random_folds(drawn, folds=folds, seed=seed)
    predicted = [index for fold in split for index in fold.test]
    assert len(predicted) == len(set(predicted))
    if split:
        assert sorted(predicted) == [index for index, network in enumerate(drawn) if not network.is_repeat]
    for fold in split:
        assert not set(groups[list(fold.train)].tolist()) & set(groups[list(fold.test)].tolist())
        assert not set(fold.train) & set(fold.test)


@given(networks)
def test_a_family_left_out_is_not_learned_from(drawn):
    """Neither the family nor a relative of it is on the side that is learned from, and all of it is predicted."""
    groups = relatives(drawn)
    for fold in leave_family_out(drawn):
        assert {drawn[index].family for index in fold.test} == {fold.name}
        assert all(drawn[index].family != fold.name for index in fold.train)
        assert not set(groups[list(fold.train)].tolist()) & set(groups[list(fold.test)].tolist())


@given(networks, st.randoms(use_true_random=False))
def test_relatives_do_not_depend_on_the_order(drawn, random):
    """Whoever reads the shards in another order finds the same groups."""
    order = list(range(len(drawn)))
    random.shuffle(order)
    groups, shuffled = relatives(drawn), relatives([drawn[index] for index in order])
    for a in range(len(drawn)):
        for b in range(a):
            assert (groups[order[a]] == groups[order[b]]) == (shuffled[a] == shuffled[b])


@given(networks, st.integers(0, 3))
def test_folds_are_drawn_the_same_again(drawn, seed):
    """Figures of two evaluations are of the same folds."""
    assert np.array_equal(fold_numbers(drawn, seed=seed), fold_numbers(drawn, seed=seed))


@given(rows)
def test_figures_are_shares_and_keep_their_order(drawn):
    """Shares lie between 0 and 1, the wider one holds the narrower, and the mean error is below the root of squares."""
    measured, predicted, over, probability, group = (np.array(column) for column in zip(*drawn, strict=True))
    judged = Judged(measured, predicted, predicted * 0.9, predicted * 1.1, over, probability, group)
    latency = {name: figure.value for name, figure in latency_figures(judged, resamples=20).items()}
    detector = {name: figure.value for name, figure in detector_figures(judged, resamples=20).items()}
    assert 0 <= latency["within_5"] <= latency["within_10"] <= 1
    assert latency["mape"] <= latency["rmspe"] * (1 + 1e-9)
    assert all(np.isnan(value) or 0 <= value <= 1 for value in (latency["coverage"], *detector.values()))


@given(rows)
def test_perfect_predictions_have_perfect_figures(drawn):
    """Whoever predicts what is measured is always within, never off."""
    measured, _, over, _, group = (np.array(column) for column in zip(*drawn, strict=True))
    judged = Judged(measured, measured, measured, measured, over, over.astype(float), group)
    latency = latency_figures(judged, resamples=20)
    assert latency["within_5"].value == latency["coverage"].value == 1
    assert latency["mape"].value == latency["rmspe"].value == 0
    assert detector_figures(judged, resamples=20)["detector_ece"].value == 0
