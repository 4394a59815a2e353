"""What is learned of operators, on laws that are known."""

from __future__ import annotations

import importlib.util
import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sectum import zoo
from sectum.errors import UsageError
from sectum.lab.dataset import kind_campaign, operator_kinds
from sectum.lab.dataset.kind_campaign import KindTask
from sectum.lab.dataset.timing_campaign import collected
from sectum.lab.learners.operator_learning import (
    LearnedOperators,
    Observation,
    fold_of,
    from_kind_campaign,
    learn,
    merged,
    only,
    overheads,
    without_kinds,
)
from sectum.ort import stored
from sectum.ort.costs import OperatorCost
from sectum.ort.cpu import Cpu
from sectum.ort.kernel_work import WIDTH
from sectum.ort.operators import KINDS
from sectum.ort.optimize import optimize
from sectum.predict.features import FEATURES, OperatorFeatures, extract
from sectum.predict.linear_times import ANY_TYPE, LinearTimes
from sectum.predict.operator_model import Overheads

# Importing it takes seconds, which a run without these tests should not spend.
pytestmark = pytest.mark.skipif(importlib.util.find_spec("lightgbm") is None, reason="learning needs the extra train")
NAMES = ("alexnet", "mobilenet_v3_small", "densenet121", "squeezenet1_1", "shufflenet_v2_x0_5", "vgg11")
SLOWER = dict(zip(KINDS, (1.0, 3.0, 1.5, 0.7, 2.0, 1.2, 0.5, 1.0, 1.0), strict=True))


def observation(name: str, resolution: int, profiling: float = 0.0) -> Observation:
    """A network whose operators take their first estimate, times a factor of their group."""
    return observed_law(name, zoo.network(name, resolution=resolution), profiling)


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_learning_twice_gives_the_same(seen):
    """Nothing depends on chance."""
    features = [seen[0].features]
    np.testing.assert_array_equal(learn(seen).normalized_times(features)[0], learn(seen).normalized_times(features)[0])


@pytest.mark.slow
def test_what_threads_change_is_learned_beside_what_one_thread_takes(seen):
    """Two threads halve the time of convolutions and not that of others: one thread's times stay as they were."""
    two = []
    for one in seen:
        halved = one.times * np.where(np.array(one.features.kinds) == "conv", 0.5, 1.0)
        values = one.features.values.copy()
        values[:, FEATURES.index("threads")] = 2
        features = replace(one.features, values=values)
        two.append(replace(one, threads=2, features=features, times=halved, total=float(halved.sum())))
    learned, alone = learn([*seen, *two]), learn(seen)
    for one, other in zip(seen[-4:], two[-4:], strict=True):
        of_one, of_two = learned.normalized_times([one.features, other.features])
        np.testing.assert_array_equal(of_one, alone.normalized_times([one.features])[0])
        assert of_two.sum() == pytest.approx(other.total, rel=0.05)


def test_a_group_of_few_operators_gets_no_trees(seen):
    """One operator with two threads tells nothing of its group; LightGBM would fail on it."""
    one = only(seen[0], np.arange(len(seen[0].times)) == 0)
    values = one.features.values.copy()
    values[:, FEATURES.index("threads")] = 2
    two = replace(one, threads=2, features=replace(one.features, values=values))
    assert not learn([*seen, two]).threads


def test_without_networks_it_is_refused():
    """The error says what to collect."""
    with pytest.raises(UsageError, match="collect some first"):
        learn([])


@pytest.mark.slow
def test_a_group_that_was_not_seen_takes_its_roofline(seen):
    """An operator of which nothing is known is never free."""
    learned = learn(seen)
    kept = {group: costs for group, costs in learned.linear.costs.items() if group != "conv"}
    trees = {group: model for group, model in learned.groups.items() if group != "conv"}
    known = LearnedOperators(LinearTimes(kept), trees, {}, Overheads(0.0, 0.0))
    features = seen[-1].features
    (times,) = known.normalized_times([features])
    convolutions = np.array(features.kinds) == "conv"
    np.testing.assert_allclose(times[convolutions], features.roofline[convolutions])


@pytest.mark.slow
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


def made_of(types: list[str], factors: dict[str, float], seed: int) -> Observation:
    """A network of pointwise operators that take time for work 0 and at their start, by a factor of their type.

    Work 1 hardly differs between them, and all have the same work 2.
    """
    chance, count = np.random.default_rng(seed), len(types)
    work = np.zeros((count, WIDTH))
    work[:, 0] = np.exp(chance.uniform(np.log(1e3), np.log(1e6), count))
    work[:, 1] = chance.uniform(1e5, 2e5, count)
    work[:, 2], work[:, 3] = 5000, 1
    times = (1e-6 * work[:, 0] + 2e-3) * [factors.get(kind, 1.0) for kind in types]
    features = OperatorFeatures(
        ("pointwise",) * count,
        chance.random((count, len(FEATURES)), dtype=np.float32),
        np.full(count, 0.1),
        work,
        tuple(types),
        (OperatorCost(1, 1, 0, 1, True, (1, 1)),) * count,
    )
    return Observation("made", f"{seed}", 1, features, times, float(times.sum()), 2.0, whole=True)


def test_work_that_hardly_differs_gets_no_cost():
    """Work that is much the same everywhere could have any cost: it has none, and an operator's start keeps its own."""
    seen = [made_of(["Relu"] * 100, {}, seed) for seed in range(3)]
    cost = learn(seen, trees=1).linear.costs["pointwise"]["Relu"]
    assert np.flatnonzero(cost).tolist() == [0, 3]
    assert cost[0] == pytest.approx(1e-6, rel=0.01)
    assert cost[3] == pytest.approx(2e-3, rel=0.01)


def test_a_type_of_few_rows_gets_the_usual_costs_times_a_factor():
    """Ten operators of a type scale the costs of all types, eight of a variant those of its type; two get none."""
    types = ["Relu"] * 100 + ["Softmax"] * 40 + ["Tanh"] * 5 + ["Softmax inner axis"] * 4 + ["Erf"]
    factors = {"Tanh": 3.0, "Softmax inner axis": 5.0}
    costs = learn([made_of(types, factors, seed) for seed in range(2)], trees=1).linear.costs["pointwise"]
    assert set(costs) == {ANY_TYPE, "Relu", "Softmax", "Tanh", "Softmax inner axis"}
    for kind, usual in (("Tanh", ANY_TYPE), ("Softmax inner axis", "Softmax")):
        used = costs[usual] > 0
        ratios = costs[kind][used] / costs[usual][used]
        assert ratios == pytest.approx(np.full(used.sum(), factors[kind]), rel=0.1)
        np.testing.assert_allclose(ratios, ratios[0])
        assert not costs[kind][~used].any()


def test_a_part_of_a_network_is_as_if_it_were_all(seen):
    """Some operators keep their features and times, in their order, and their times add up to the total."""
    one = seen[-1]
    mask = np.arange(len(one.times)) % 3 == 1
    part = only(one, mask)
    np.testing.assert_array_equal(part.times, one.times[mask])
    np.testing.assert_array_equal(part.features.values, one.features.values[mask])
    np.testing.assert_array_equal(part.features.work, one.features.work[mask])
    np.testing.assert_array_equal(part.features.roofline, one.features.roofline[mask])
    chosen = np.flatnonzero(mask)
    assert part.features.kinds == tuple(one.features.kinds[at] for at in chosen)
    assert part.features.types == tuple(one.features.types[at] for at in chosen)
    assert part.features.costs == tuple(one.features.costs[at] for at in chosen)
    assert part.total == pytest.approx(one.times[mask].sum())
    assert part.shares.sum() == pytest.approx(1)
    assert (part.family, part.topology, part.threads) == (one.family, one.topology, one.threads)


def test_a_part_of_what_has_no_total_has_none(seen):
    """Operators that were timed without their network stay so, and all count alike."""
    part = only(replace(seen[-1], total=0.0), np.arange(len(seen[-1].times)) < 4)
    assert part.total == 0
    assert len(set(part.shares.tolist())) == 1


def test_kinds_are_left_out_wholly(seen):
    """No operator of such a kind stays, and all others do."""
    one = seen[-1]
    assert {"conv", "pool"} < set(one.features.kinds)
    kept = without_kinds(one, {"conv", "pool"})
    assert kept.features.kinds == tuple(kind for kind in one.features.kinds if kind not in ("conv", "pool"))
    assert len(without_kinds(one, ()).times) == len(one.times)


def test_a_campaign_of_kinds_is_read_as_it_was_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each network that was timed is one observation without a total; those that failed are left out."""
    pytest.importorskip("pyarrow", reason="shards are Parquet: install sectum[train]")
    monkeypatch.setattr(operator_kinds, "OPERATORS", 2)
    graphs = {}

    def fake(task: KindTask) -> dict[str, object]:
        write = partial(operator_kinds.write, kind=task.kind, seed=task.seed)
        runtime = optimize(zoo.to_graph(zoo.Program("small", task.kind, write)), Cpu.AVX2)
        graphs[task.key] = runtime
        times = [0.25 * place for place in range(len(runtime.operators))]
        return {
            "key": task.key, "kind": task.kind, "seed": task.seed, "threads": task.threads,
            "graph": stored.dumps(runtime), "times_references": times, "reference_ms": 2.5,
            "error": "failed: by design" if task.kind == "pad" else "",
        }  # fmt: skip

    tasks = [KindTask("lstm", 1, 1), KindTask("pad", 2, 1), KindTask("matmul_quantized", 3, 2)]
    list(collected(tmp_path, tasks, fake, kind_campaign.FORM))
    first, second = sorted(from_kind_campaign(tmp_path, Cpu.AVX2), key=lambda one: one.family)
    assert (first.family, first.topology, first.threads) == ("lstm", "lstm/1", 1)
    assert (second.family, second.topology, second.threads) == ("matmul_quantized", "matmul_quantized/3", 2)
    for one, task in ((first, tasks[0]), (second, tasks[2])):
        expected = extract(graphs[task.key], threads=task.threads)
        np.testing.assert_array_equal(one.features.values, expected.values)
        np.testing.assert_array_equal(one.features.work, expected.work)
        assert one.features.types == expected.types
        assert one.times.tolist() == pytest.approx([max(0.25 * at, 1e-6) for at in range(len(expected.kinds))])
        assert (one.total, one.reference_ms, one.whole) == (0, 2.5, True)
    assert "recurrent" in first.features.kinds
    assert "quantized" in second.features.kinds
