"""What is learned of operators, on laws that are known."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from sectum import zoo
from sectum.errors import UsageError
from sectum.lab.learners.operator_learning import (
    LearnedOperators,
    Observation,
    fold_of,
    learn,
    merged,
    overheads,
)
from sectum.ort.cpu import Cpu
from sectum.ort.operators import KINDS
from sectum.ort.optimize import optimize
from sectum.predict.features import extract
from sectum.predict.linear_times import LinearTimes
from sectum.predict.operator_model import Overheads

pytest.importorskip("lightgbm", reason="learning needs the extra train")
NAMES = ("alexnet", "mobilenet_v3_small", "densenet121", "squeezenet1_1", "shufflenet_v2_x0_5", "vgg11")
SLOWER = dict(zip(KINDS, (1.0, 3.0, 1.5, 0.7, 2.0, 1.2, 0.5, 1.0, 1.0), strict=True))


def observation(name: str, resolution: int, profiling: float = 0.0) -> Observation:
    """A network whose operators take their first estimate, times a factor of their group."""
    return observed_law(name, zoo.build(name, resolution=resolution), profiling)


def observed_law(name: str, architecture: zoo.Architecture, profiling: float = 0.0) -> Observation:
    runtime = optimize(zoo.to_graph(architecture, 1), Cpu.AVX2)
    features = extract(runtime, threads=1)
    times = features.roofline * [SLOWER[group] for group in features.kinds]
    return Observation(name, f"{name}", 1, features, times + profiling, float(times.sum()), 2.5, whole=True)


@pytest.fixture(scope="module")
def seen() -> list[Observation]:
    # The published networks have no convolution outside the blocked layout; odd numbers of channels do that.
    odd = [observed_law(f"odd {seed}", zoo.sample("squeezenet", random.Random(seed))) for seed in range(4)]
    return odd + [observation(name, resolution) for name in NAMES for resolution in (64, 96, 128, 192)]


def test_a_law_that_holds_for_each_group_is_found(seen):
    """Networks at a resolution that was not trained on are predicted within a twentieth."""
    others = [observation(name, 160) for name in NAMES]
    learned = learn(seen)
    for other, times in zip(others, learned.normalized_times([one.features for one in others]), strict=True):
        assert times.shape == other.times.shape
        assert times.sum() == pytest.approx(other.total, rel=0.05)


def test_what_profiling_adds_is_taken_off(seen):
    """A clock that costs as much at every operator is not counted in the network's time."""
    slowed = [observation(name, 96, profiling=0.004) for name in NAMES]
    found = overheads(slowed)
    assert found.profiling == pytest.approx(0.004)
    assert found.start == pytest.approx(0, abs=1e-6)


def test_what_an_inference_takes_beside_its_operators_is_found(seen):
    """It is the same for networks of few and of many operators, and is part of what is predicted."""
    later = [replace(one, total=one.total + 0.03) for one in seen]
    assert overheads(later).start == pytest.approx(0.03, rel=0.01)
    learned = learn(later)
    for one, times in zip(later, learned.normalized_times([one.features for one in later]), strict=True):
        assert times.sum() == pytest.approx(one.total, rel=0.05)


def test_relatives_lie_in_one_fold(seen):
    """One network at four resolutions is in one fold, and the folds are not all the same."""
    folds = fold_of(seen, 3)
    for name in NAMES:
        assert len({int(fold) for fold, one in zip(folds, seen, strict=True) if one.topology == name}) == 1
    assert set(folds.tolist()) == {0, 1, 2}


def test_learning_twice_gives_the_same(seen):
    """Nothing depends on chance."""
    features = [seen[0].features]
    np.testing.assert_array_equal(learn(seen).normalized_times(features)[0], learn(seen).normalized_times(features)[0])


def test_without_networks_it_is_refused():
    """The error says what to collect."""
    with pytest.raises(UsageError, match="collect some first"):
        learn([])


def test_a_group_that_was_not_seen_takes_its_roofline(seen):
    """An operator of which nothing is known is never free."""
    learned = learn(seen)
    kept = {group: costs for group, costs in learned.linear.costs.items() if group != "conv"}
    trees = {group: model for group, model in learned.groups.items() if group != "conv"}
    known = LearnedOperators(LinearTimes(kept), trees, Overheads(0.0, 0.0))
    features = seen[-1].features
    (times,) = known.normalized_times([features])
    convolutions = np.array(features.kinds) == "conv"
    np.testing.assert_allclose(times[convolutions], features.roofline[convolutions])


def test_work_that_is_none_but_for_rounding_costs_nothing(seen):
    """A column of 1e-9 beside others of millions is a size that is 0: a cost of it would be anything, and is 0."""
    chance, rounded = np.random.default_rng(0), []
    for one in seen:
        work, pointwise = one.features.work.copy(), np.array(one.features.kinds) == "pointwise"
        assert not work[pointwise, -1].any()
        times = one.times * chance.uniform(0.5, 2.0, len(one.times))
        work[pointwise, -1] = 1e-9 * times[pointwise]  # as if it explained all
        features = replace(one.features, work=work)
        rounded.append(replace(one, features=features, times=times, total=float(times.sum())))
    for cost in learn(rounded).linear.costs["pointwise"].values():
        assert cost.any()
        assert not cost[-1]


def test_rows_of_equal_features_are_merged():
    """Least squares see the weighted mean of equal rows, with their summed weight."""
    values = np.array([[1, 2], [3, 4], [1, 2]], dtype=np.float32)
    kept, target, _, weight = merged(values, np.array([1.0, 5.0, 4.0]), np.array([1.0, 1.0, 2.0]))
    found = {tuple(row): (t, w) for row, t, w in zip(kept.tolist(), target.tolist(), weight.tolist(), strict=True)}
    assert found == {(1.0, 2.0): (3.0, 3.0), (3.0, 4.0): (5.0, 1.0)}
