"""The cheapest changes that meet a bound: all of them, as small as they may be, in the order of their cost."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawing import examples
from sectum import zoo
from sectum.errors import ShapeInconsistent
from sectum.plan.advising import (
    BATCH,
    ENCLAVES,
    EPC,
    KINDS,
    PLAN,
    RESOLUTION,
    THREADS,
    WIDTH,
    Question,
    Setup,
    cost,
    meet_bound,
)
from sectum.plan.chain import ChainPlanner
from sectum.plan.latency import ChainedLatency, Estimate, PlannedLatency
from sectum.plan.links import LinkCosts
from sectum.plan.opening import OpeningCosts
from sectum.predict.prediction import Interval
from sectum.units import MIB

SINGLES = (BATCH, EPC, ENCLAVES, RESOLUTION, WIDTH)


@dataclass
class Machine:
    """A made-up latency: work over threads, and what does not fit into the EPC is paged, or opened by a plan.

    Several enclaves share what does not fit, and each link takes a millisecond.
    """

    planned: bool
    page_ms: float
    spread: float = 0.1
    enclaves: int = 1
    asked: int = 0

    def latency(self, graph: Any, profile: Any, *, threads: int = 1) -> Estimate:
        self.asked += 1
        size = graph.batch * (graph.resolution / 100) ** 2 * graph.width
        working_set = int(10 * MIB * size)
        missing = max(0, working_set - profile * self.enclaves) / MIB
        native = 20 * size / threads**0.8
        latency = native + missing * self.page_ms * (0.1 if self.planned else 1.0) + self.enclaves - 1
        interval = Interval(latency * (1 - self.spread), latency * (1 + self.spread))
        return Estimate(latency, interval, native, working_set)


class Sizes(int):
    """Stands for a profile: its EPC."""

    def with_epc(self, epc_bytes: int) -> Sizes:
        return Sizes(epc_bytes)


def question(
    base: Setup, values: dict[str, Any], page_ms: float = 5.0, networks: Any = lambda setup: setup
) -> Question:
    """A question about the made-up machine, whose networks are setups."""
    paged, planned = Machine(planned=False, page_ms=page_ms), Machine(planned=True, page_ms=page_ms)
    chains = {count: Machine(planned=True, page_ms=page_ms, enclaves=count) for count in values.get(ENCLAVES, ())}
    return Question(
        base=base,
        networks=networks,
        profile=Sizes(base.epc_bytes),
        models=lambda setup: chains.get(setup.enclaves, planned if setup.planned else paged),
        values={PLAN: (True,), **values},
    )


BASE = Setup(batch=4, threads=1, epc_bytes=8 * MIB, resolution=100)
VALUES = {BATCH: (3, 2, 1), THREADS: (2, 4), ENCLAVES: (2, 3), RESOLUTION: (80, 60), WIDTH: (0.75, 0.5)}


def brute_force(asked: Question, bound_ms: float) -> dict[tuple[str, ...], list[Setup]]:
    """Every setup that meets the bound, by the kinds in which it differs."""
    values = asked.values | {EPC: range(asked.base.epc_bytes + MIB, asked.base.epc_bytes + 60 * MIB, MIB)}
    one_of = [{kind: value} for kind in SINGLES for value in values.get(kind, ())]
    free = itertools.product(*((getattr(asked.base, kind), *values.get(kind, ())) for kind in (PLAN, THREADS)))
    found: dict[tuple[str, ...], list[Setup]] = {}
    for (planned, threads), single in itertools.product(free, [{}, *one_of]):
        if planned and ENCLAVES in single:
            continue  # several enclaves have a plan anyway
        setup = replace(asked.base, planned=planned, threads=threads, **single)
        estimate = asked.models(setup).latency(setup, setup.epc_bytes, threads=threads)
        if estimate.interval_ms.high <= bound_ms:
            found.setdefault(setup.changed(asked.base), []).append(setup)
    return found


@examples(25)
@given(bound_ms=st.floats(5, 300), page_ms=st.floats(0.1, 20))
def test_it_finds_what_trying_everything_finds(bound_ms: float, page_ms: float) -> None:
    """The choices are the least sets of kinds that meet the bound, and no smaller change of their kinds does."""
    asked = question(BASE, VALUES, page_ms)
    found = meet_bound(asked, bound_ms)
    everything = brute_force(asked, bound_ms)
    if () in everything:
        assert found.meets
        return
    least = {kinds for kinds in everything if not any(set(other) < set(kinds) for other in everything)}
    by_kinds = {choice.setup.changed(BASE): choice.setup for choice in found.choices}
    assert set(by_kinds) == least
    for kinds, setup in by_kinds.items():
        assert setup in everything[kinds]
        dearest = kinds[-1]
        closeness = [abs(getattr(one, dearest) - getattr(BASE, dearest)) for one in everything[kinds]]
        assert abs(getattr(setup, dearest) - getattr(BASE, dearest)) == min(closeness)


@pytest.mark.parametrize("bound_ms", [30.0, 60.0, 100.0])
def test_the_cheapest_comes_first(bound_ms: float) -> None:
    """Choices are sorted by their dearest kind, then by the number of kinds."""
    choices = meet_bound(question(BASE, VALUES), bound_ms).choices
    assert len(choices) > 1
    kinds = [choice.setup.changed(BASE) for choice in choices]
    assert kinds == sorted(kinds, key=cost)
    assert [max(map(KINDS.index, one)) for one in kinds] == sorted(max(map(KINDS.index, one)) for one in kinds)


def test_a_bound_that_is_met_needs_no_change() -> None:
    """Where the network meets the bound as it runs now, nothing is tried."""
    asked = question(BASE, VALUES)
    found = meet_bound(asked, 1e6)
    assert found.meets
    assert not found.choices
    assert found.nearest is None
    assert asked.models(BASE).asked == 1


def test_the_nearest_is_told_where_nothing_meets_the_bound() -> None:
    """The nearest has the least latency of all that was tried."""
    asked = question(BASE, VALUES)
    found = meet_bound(asked, 0.001)
    assert not found.choices
    assert found.nearest is not None
    extremes = [
        asked.models(setup).latency(setup, BASE.epc_bytes, threads=4).latency_ms
        for planned in (False, True)
        for kind in (BATCH, RESOLUTION, WIDTH)
        for setup in [replace(BASE, planned=planned, **{kind: VALUES[kind][-1]})]
    ]
    assert found.nearest.estimate.latency_ms == pytest.approx(min(extremes), rel=0.02)


def test_the_interval_or_the_latency_has_to_meet_the_bound() -> None:
    """By the interval a change is larger than by the latency alone, and its interval ends below the bound."""
    surely = meet_bound(question(BASE, {}), 85.0).choices
    probably = meet_bound(question(BASE, {}), 85.0, surely=False).choices
    assert surely == ()
    assert [choice.setup.changed(BASE) for choice in probably] == [(EPC,)]
    assert all(choice.estimate.latency_ms <= 85.0 for choice in probably)


def test_networks_that_cannot_be_made_are_passed_over() -> None:
    """A resolution that is too small for the network is no advice, and ends nothing."""

    def networks(setup: Setup) -> Setup:
        if setup.resolution != BASE.resolution:
            raise ShapeInconsistent("too small")
        return setup

    found = meet_bound(question(BASE, VALUES, networks=networks), 50.0)
    assert found.choices
    assert not any(RESOLUTION in choice.setup.changed(BASE) for choice in found.choices)


def test_each_network_is_made_once() -> None:
    """However many setups are tried, a network is made once for each batch, resolution and width."""
    made: list[tuple[Any, ...]] = []

    def networks(setup: Setup) -> Setup:
        made.append((setup.batch, setup.resolution, setup.width))
        return setup

    meet_bound(question(BASE, VALUES, networks=networks), 50.0)
    assert len(made) == len(set(made))


@pytest.mark.slow
def test_advice_on_enclaves_is_what_the_planner_says(predictor, softepc) -> None:
    """Of several enclaves as few are advised as meet the bound, with the latency of the planner for as many."""
    graph = zoo.to_graph(zoo.network("squeezenet1_1"), 1)
    planned = PlannedLatency(predictor, OpeningCosts())
    chained = ChainedLatency(planned, 4, link_costs=LinkCosts())
    enclave = softepc.with_epc(5 * MIB)

    def models(setup: Setup) -> Any:
        return chained.at_most(setup.enclaves) if setup.enclaves > 1 else planned.unplanned

    def predicted(enclaves: int) -> Estimate:
        network = predictor.prepare(graph, threads=1)
        planner = ChainPlanner(predictor, network, enclave, OpeningCosts(), link_costs=LinkCosts())
        found = planner.best_chain(enclaves)
        return Estimate(found.latency_ms, found.interval_ms, found.native_ms, 0)

    base = Setup(batch=1, threads=1, epc_bytes=5 * MIB)
    bound_ms = predicted(4).interval_ms.high + 0.01
    asked = Question(base=base, networks=lambda _: graph, profile=enclave, models=models, values={ENCLAVES: (2, 3, 4)})
    (choice,) = [one for one in meet_bound(asked, bound_ms).choices if one.setup.changed(base) == (ENCLAVES,)]
    assert choice.estimate.latency_ms == predicted(choice.setup.enclaves).latency_ms
    assert choice.estimate.plan is not None
    assert choice.setup.enclaves == 2 or predicted(choice.setup.enclaves - 1).interval_ms.high > bound_ms


@pytest.mark.slow
def test_advice_on_a_real_network_is_what_a_prediction_says(predictor, softepc) -> None:
    """Latencies of advice are those of the predictor and the planner for the same setup, and as small as may be."""
    graph = zoo.to_graph(zoo.network("squeezenet1_1"), 1)
    models = PlannedLatency(predictor, OpeningCosts())
    enclave = softepc.with_epc(5 * MIB)
    base = Setup(batch=1, threads=1, epc_bytes=5 * MIB)
    asked = Question(
        base=base,
        networks=lambda _: graph,
        profile=enclave,
        models=lambda setup: models if setup.planned else models.unplanned,
        values={PLAN: (True,), THREADS: (2,)},
    )
    now = predictor.predict(graph, enclave)
    bound_ms = 1.4 * now.native_ms
    found = meet_bound(asked, bound_ms)
    assert found.now.estimate.latency_ms == now.latency_ms
    assert found.choices
    for choice in found.choices:
        setup, estimate = choice.setup, choice.estimate
        there = softepc.with_epc(setup.epc_bytes)
        assert estimate.interval_ms.high <= bound_ms
        if not setup.planned:
            assert estimate.latency_ms == predictor.predict(graph, there, threads=setup.threads).latency_ms
        else:
            assert estimate.latency_ms == models.planner(graph, there, setup.threads).best().latency_ms
        if setup.epc_bytes > base.epc_bytes:
            less = models if setup.planned else models.unplanned
            short = less.latency(graph, softepc.with_epc(setup.epc_bytes - MIB), threads=setup.threads)
            assert short.interval_ms.high > bound_ms
