"""The Pareto front of any networks, and why there is none."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import searching
from sectum import zoo
from sectum.errors import BoundNotMet, ObjectiveFailed, SpaceInvalid, UsageError
from sectum.plan.search import Evaluated, Setting, front_of
from sectum.plan.search.evaluating import Evaluators
from sectum.plan.search.front import Front
from sectum.predict import predict_many
from sectum.units import MIB

PLAIN = Evaluated("n", 1.0, 2.0, 3.0, 4096, 0.0, 0.0)


def of(latency_ms: float, score: float | None, upper_ms: float | None = None) -> Evaluated:
    return replace(PLAIN, latency_ms=latency_ms, upper_ms=latency_ms if upper_ms is None else upper_ms, score=score)


def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[0] and one[1] >= other[1] and one != other


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=40))
def test_the_front_is_what_nothing_dominates(points):
    """Whatever the order, the front has exactly the distinct points under the bound that no other dominates."""
    front = Front(8)
    for latency, score in points:
        front.add(of(latency, score))
    allowed = {point for point in points if point[0] <= 8}
    expected = sorted(one for one in allowed if not any(dominates(other, one) for other in allowed))
    assert [(one.latency_ms, one.score) for one, _ in front.best] == expected


def test_the_bound_is_for_the_upper_end_of_the_interval():
    """A network whose latency is under the bound, but whose interval is not, is not returned."""
    front = Front(10)
    front.add(of(9, 5.0, upper_ms=11))
    assert front.met == 0
    with pytest.raises(BoundNotMet, match=r"none of 1 architectures.*nearest is n: 9 ms, at most 11 ms"):
        front.check()


def test_reasons_name_the_nearest_answer():
    """Each way to find nothing has its error, its reason, and what comes nearest."""
    with pytest.raises(SpaceInvalid, match="no architecture to look at"):
        Front(10).check()
    failed = replace(PLAIN, latency_ms=math.nan, upper_ms=math.nan, score=None, failure="ShapeInconsistent: too small")
    front = Front(10)
    front.add(failed)
    with pytest.raises(SpaceInvalid, match=r"none of 1 architectures could be predicted.*n: ShapeInconsistent"):
        front.check()
    front.add(of(30, None), parameters={"depth": 3})
    front.add(of(20, None), parameters={"depth": 2})
    with pytest.raises(BoundNotMet, match=r"Allow 20 ms.*") as unmet:
        front.check()
    assert "(depth = 2)" in str(unmet.value)
    front.add(replace(of(5, None), failure="the objective raised ZeroDivisionError: x"), parameters={"depth": 1})
    with pytest.raises(ObjectiveFailed, match="Without a score, the fastest is n: 5 ms"):
        front.check()
    front.add(of(6, 1.0))
    front.check()


@pytest.fixture(scope="module")
def setting(predictor, softepc):
    return Setting(predictor, softepc.with_epc(64 * MIB), 1.0, searching.parameters)


def drawn(count: int) -> list[zoo.Architecture]:
    """Random networks of the small space."""
    rng = random.Random(2)
    parameters = searching.SMALL.parameters
    return [
        searching.SMALL.build({name: rng.choice(choices) for name, choices in parameters.items()}) for _ in range(count)
    ]


def test_the_front_of_any_networks_is_that_of_their_predictions(setting):
    """What is returned is exactly the front of what `predict_many` says of each, by the upper end of its interval."""
    networks = drawn(20)
    predicted = predict_many(setting.predictor, networks, setting.profile, workers=1, intervals=True)
    points = {
        network.name: (one.latency_ms, float(network.parameters))
        for network, one in zip(networks, predicted, strict=True)
        if one.upper_ms <= setting.bound_ms
    }
    assert 0 < len(points) < len(networks)
    best = {name for name, one in points.items() if not any(dominates(other, one) for other in points.values())}
    found = front_of(iter(networks), setting)
    assert {one.evaluated.name for one in found} == best
    assert all(one.network in networks for one in found)
    assert [one.evaluated.latency_ms for one in found] == sorted(points[name][0] for name in best)


@pytest.mark.slow
def test_processes_find_the_same(setting):
    """Two processes give the front of one."""
    networks = drawn(30)
    alone = front_of(networks, setting)
    assert front_of(networks, setting, workers=2, at_a_time=4) == alone


def test_networks_are_taken_as_they_are_evaluated(setting):
    """An endless search is not drawn ahead of what is evaluated."""
    drawn_ahead, networks = [], drawn(3)

    def endless():
        for network in itertools.cycle(networks):
            drawn_ahead.append(network)
            yield network

    with Evaluators(setting) as evaluators:
        found = list(itertools.islice(evaluators.run((one, one) for one in endless()), 4))
    assert [network for network, _ in found] == drawn_ahead[:4]
    assert len(drawn_ahead) <= 5


@pytest.mark.parametrize("objective", [searching.raises, searching.nothing])
def test_an_objective_without_scores_is_told_with_its_reason(setting, objective):
    """An objective that raises or gives NaN ends with the reason and the fastest network."""
    with pytest.raises(ObjectiveFailed, match=r"(no pictures|gave nan).*the fastest is small_"):
        front_of(drawn(4), replace(setting, objective=objective, bound_ms=100.0))


def test_what_is_no_network_fails_alone(setting):
    """Something else among the networks does not end the search."""
    assert front_of(["resnet50", *drawn(4)], replace(setting, bound_ms=100.0))


@pytest.mark.parametrize("bound_ms", [0.0, -1.0, math.nan, math.inf])
def test_bounds_that_mean_nothing_are_refused(setting, bound_ms):
    """A bound is a positive number of milliseconds."""
    with pytest.raises(UsageError, match="give a positive number of milliseconds"):
        replace(setting, bound_ms=bound_ms)
