"""Searches by Optuna: reproducible, resumable, and clear about what cannot be found."""

from __future__ import annotations

import sqlite3

import pytest

import searching
from sectum.enclave import profile
from sectum.errors import BoundNotMet, ObjectiveFailed, SpaceInvalid, UsageError
from sectum.plan.latency import PlannedLatency
from sectum.plan.opening import OpeningCosts
from sectum.plan.search import search
from sectum.plan.search.blind import choices, without_epc
from sectum.predict import predict_many
from sectum.units import KIB, MIB
from sectum.zoo import space_file, to_graph

pytest.importorskip("optuna", reason="searching needs Optuna: install sectum[search]")


@pytest.fixture
def find(predictor, softepc):
    """Search the small space in an EPC that all its networks fit into; options may be replaced."""

    def run(**options):
        asked = {"space": searching.SMALL, "bound_ms": 1.0, "profile": softepc.with_epc(64 * MIB), "trials": 40,
                 "objective": searching.parameters, "predictor": predictor, **options}  # fmt: skip
        return search(**asked)

    return run


def names(result) -> list[str]:
    return [one.evaluated.name for one in result.front]


@pytest.mark.parametrize("sampler", ["nsga2", "tpe", "random"])
def test_a_seed_gives_the_same_search_again(find, sampler):
    """With one seed each sampler gives the same trials; with another, others."""
    first = find(sampler=sampler, seed=3, trials=20)
    assert find(sampler=sampler, seed=3, trials=20).evaluated == first.evaluated
    assert find(sampler=sampler, seed=4, trials=20).evaluated != first.evaluated
    assert first.trials == len(first.evaluated) == 20


def test_the_front_is_under_the_bound_and_its_networks_are_what_was_predicted(find, predictor, softepc):
    """Every network returned, made again from its parameters, is predicted to stay under the bound."""
    found = find()
    again = predict_many(
        predictor, [one.network for one in found.front], softepc.with_epc(64 * MIB), workers=1, intervals=True
    )
    assert len(found.front) > 1
    for one, candidate in zip(found.front, again, strict=True):
        assert (one.evaluated.name, one.evaluated.upper_ms) == (candidate.name, candidate.upper_ms)
        assert candidate.upper_ms <= 1.0
        assert searching.SMALL.build(one.parameters) == one.network
    assert sum(one.upper_ms <= 1.0 for one in found.evaluated) == found.under_bound < found.trials


def test_networks_over_the_bound_are_not_scored(find):
    """A score costs time, so that it is looked up under the bound only."""
    for one in find().evaluated:
        assert (one.score is not None) == (one.upper_ms <= 1.0)


def test_a_search_ends_when_the_space_is_known(find):
    """A space with fewer networks than trials is looked at once, and the result says so."""
    found = find(space=searching.small, trials=30)
    assert not found.complete
    small = searching.SMALL.build(searching.SMALL.smallest)
    only = searching.Space("one", searching.SMALL.stem, searching.SMALL.stages[:1], resolution=(32,), classes=10)
    found = find(space=only, trials=2000, sampler="random")
    assert found.complete
    assert len({one.name for one in found.evaluated}) == only.count == 36
    assert small.name.startswith("small_")


def test_a_function_is_a_space(find):
    """A function from a trial to an architecture is searched; its parameters are told."""
    found = find(space=searching.small, trials=12)
    assert found.trials == 12
    assert set(found.front[0].parameters) == {"channels", "depth"}
    assert find(space="searching:small", trials=12).evaluated == found.evaluated


def test_a_stored_study_goes_on(find, tmp_path):
    """A second run continues the study; a third finds nothing left to do, and all give the same trials back."""
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    first = find(storage=storage, trials=10)
    second = find(storage=storage, trials=25)
    assert second.evaluated[:10] == first.evaluated
    assert second.trials == 25
    third = find(storage=storage, trials=25)
    assert third.evaluated == second.evaluated
    assert names(third) == names(second)
    with sqlite3.connect(tmp_path / "study.db") as database:
        assert database.execute("select count(*), count(distinct number) from trials").fetchone() == (25, 25)
    # A resumed search does not draw what it began with again.
    assert len({one.name for one in second.evaluated[10:]} - {one.name for one in first.evaluated}) > 5


def test_a_study_of_another_search_is_not_continued(find, tmp_path):
    """Trials of another bound, batch, space or enclave are not mixed."""
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    find(storage=storage, trials=3)
    with pytest.raises(UsageError, match=r"bound_ms 1.0 instead of 2.0"):
        find(storage=storage, trials=3, bound_ms=2.0)
    with pytest.raises(UsageError, match="batch 1 instead of 2"):
        find(storage=storage, trials=3, batch=2)
    find(storage=storage, trials=3, study="another", bound_ms=2.0)


@pytest.mark.parametrize(
    ("storage", "told"),
    [("study.db", "write for example sqlite:///study.db"), ("sqlite:////nowhere/study.db", "cannot be opened")],
)
def test_a_storage_that_is_none_is_told(find, storage, told):
    """A path without a scheme and a database that cannot be opened are wrong usage."""
    with pytest.raises(UsageError, match=told):
        find(storage=storage)


def test_bounds_that_cannot_be_met_name_the_nearest_network(find):
    """The smallest network of the space is looked at first; if nothing is faster, it is the nearest answer."""
    with pytest.raises(BoundNotMet) as unmet:
        find(bound_ms=0.001, trials=1)
    assert searching.SMALL.name_of(searching.SMALL.smallest) in str(unmet.value)


@pytest.mark.parametrize("objective", [searching.raises, searching.nothing])
def test_an_objective_without_scores_ends_with_its_reason(find, objective):
    """An objective that raises or gives NaN is told with the reason and the fastest network."""
    with pytest.raises(ObjectiveFailed, match=r"no pictures|gave nan"):
        find(objective=objective, trials=5)


def test_an_objective_that_fails_for_some_networks_does_not_end_the_search(find, tmp_path):
    """The others are the front; the failures are counted, also after the study was read again."""
    options = {"objective": searching.raises_for_some, "storage": f"sqlite:///{tmp_path / 'study.db'}", "bound_ms": 9.0,
               "trials": 12}  # fmt: skip
    found = find(**options)
    assert 0 < found.failed < found.trials
    assert "divisible by three" in found.first_failure
    assert find(**options).failed == found.failed


def test_a_space_that_cannot_be_made_is_told(find):
    """A function with a defect ends with its error."""
    with pytest.raises(SpaceInvalid, match="the space raised KeyError"):
        find(space=searching.broken, trials=3)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"trials": 0}, "trials is 0"),
        ({"sampler": "cmaes"}, "choose one of nsga2, tpe, random"),
        ({"workers": 0}, "workers is 0"),
        ({"objective": "synflw"}, "did you mean synflow"),
        ({"objective": "searching:missing"}, "has no function missing"),
        ({"objective": "no_such_module:f"}, "no_such_module cannot be imported"),
        ({"bound_ms": -1.0}, "give a positive number"),
    ],
)
def test_wrong_arguments_are_told(find, wrong, told):
    """Each argument out of its range is wrong usage, told before any work."""
    with pytest.raises(UsageError, match=told):
        find(**wrong)


@pytest.mark.slow
def test_without_the_epc_no_latency_has_paging_and_choices_differ(find, predictor, softepc):
    """For each network of the front stands the fastest of a score as high, with what it takes in the EPC."""
    profile = softepc.with_epc(512 * KIB)
    aware, blind = find(bound_ms=100.0, profile=profile), find(bound_ms=100.0, profile=without_epc(profile))
    assert not any(one.overcommit for one in blind.evaluated)
    compared = choices(aware.front, blind.front, predictor, profile)
    assert [one.aware for one in compared] == list(aware.front)
    for one in compared:
        if one.blind is not None and one.in_epc is not None:
            assert one.blind.evaluated.score >= one.aware.evaluated.score
            assert one.times == one.in_epc.latency_ms / one.aware.evaluated.latency_ms
    assert any(one.in_epc is not None and one.in_epc.loads > 0 for one in compared)


@pytest.mark.slow
def test_plans_are_those_of_the_planner(find, predictor, softepc, tmp_path):
    """What pages and gains by a plan has the latency and interval of its best plan; all else stays as it is."""
    enclave, tiny, made = softepc.with_epc(2 * MIB), space_file.load("tiny"), {}

    def drawn(trial):
        network = tiny.build({name: trial.suggest_categorical(name, list(of)) for name, of in tiny.parameters.items()})
        return made.setdefault(network.name, network)

    asked = {"space": drawn, "bound_ms": 100.0, "profile": enclave, "sampler": "random"}
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    first = find(**asked, plans=True, trials=5, storage=storage)
    found = find(**asked, plans=True, trials=12, storage=storage)
    assert found.evaluated[:5] == first.evaluated
    assert any(one.planned for one in found.evaluated)
    assert not any(one.planned for one in find(**asked, trials=12).evaluated)
    planner = PlannedLatency(predictor, OpeningCosts())
    for one in found.evaluated:
        estimate = planner.latency(to_graph(made[one.name], 1), enclave)
        assert one.planned is (estimate.plan is not None)
        assert one.latency_ms == pytest.approx(estimate.latency_ms, rel=1e-12)
        assert one.upper_ms == pytest.approx(estimate.interval_ms.high, rel=1e-12)
    with pytest.raises(UsageError, match="plans True instead of None"):
        find(**asked, trials=12, storage=storage)


def test_without_an_epc_there_is_nothing_to_plan(find):
    """Plans are refused where nothing can page."""
    with pytest.raises(UsageError, match="there is nothing to plan"):
        find(plans=True, profile=profile.load("native"))


@pytest.mark.slow
def test_processes_share_a_search(find):
    """Two processes give as many trials, and numbers as one gives."""
    alone = {one.name: one for one in find(trials=60).evaluated}
    shared = find(trials=60, workers=2).evaluated
    assert len(shared) == 60
    assert all(one == alone[one.name] for one in shared if one.name in alone)
