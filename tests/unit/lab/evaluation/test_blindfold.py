"""Whoever predicts cannot see what was measured."""

from __future__ import annotations

import gc
import types
from dataclasses import fields, replace

import numpy as np
import pytest

from measured_networks import made_up, stored_networks
from sectum.lab.evaluation.registry import Entry
from sectum.lab.evaluation.running import predictions
from sectum.lab.learners.learner import LatencyCase, LatencyEstimate
from sectum.lab.learners.measured import KnownNetwork, MeasuredNetwork, MeasuredRun, known
from sectum.lab.learners.splits import random_folds

pytest.importorskip("pyarrow", reason="shards are Parquet: install sectum[train]")


def reachable(thing: object) -> list[object]:
    """All objects that can be reached from one, but for code."""
    found: dict[int, object] = {}
    waiting = [thing]
    while waiting:
        one = waiting.pop()
        if id(one) in found or isinstance(
            one, type | types.ModuleType | types.FunctionType | types.BuiltinFunctionType
        ):
            continue
        found[id(one)] = one
        waiting += gc.get_referents(one)
    return list(found.values())


def test_no_measurement_can_be_reached_from_a_case():
    """Following every reference of a view, nothing measured is met: no run, no network, no array of times."""
    network = stored_networks(3)[0]
    view = known(network)
    assert view.paging(network.runs[0].epc_pages).rounds
    assert view.graph.operators
    things = reachable(LatencyCase(view, 100))
    assert not [one for one in things if isinstance(one, MeasuredNetwork | MeasuredRun)]
    assert not any(one is network.operator_ms for one in things)
    assert network.native.latency_ms not in [one for one in things if isinstance(one, float)]


def test_a_view_names_everything_that_is_known():
    """Whoever adds a field to the view comes here, and asks whether it could tell a latency."""
    assert {field.name for field in fields(KnownNetwork)} == {
        "structure", "batch", "threads", "machine", "references", "cpu", "_stored_graph",
    }  # fmt: skip


def test_a_view_has_the_graph_features_and_faults_of_its_network():
    """Blindfolded is not ignorant: what follows from the graph is all there, and the same."""
    network = stored_networks(3)[1]
    view = known(replace(network))
    assert np.array_equal(view.features.values, network.features.values)
    assert view.trace.pages == network.trace.pages
    pages = network.runs[0].epc_pages
    assert view.paging(pages).loads == network.paging(pages).loads


class Spy:
    """Notes what it is given."""

    name = "spy"
    trained: list[MeasuredNetwork] = []  # noqa: RUF012 - one spy in a process
    asked: list[LatencyCase] = []  # noqa: RUF012

    def fit(self, networks):
        self.trained[:] = networks
        return self

    def predict(self, cases):
        self.asked[:] = cases
        return [LatencyEstimate(1.0) for _ in cases]


def test_learners_get_networks_of_the_fold_and_views_of_the_rest():
    """The learner is trained on the fold's networks, and asked about views of all others, in each place."""
    networks = [made_up(i) for i in range(10)]
    fold = random_folds(networks)[0]
    predictions(networks, [Entry("spy", "", lambda _shared: Spy(), needs=())], {"random": [fold]})
    assert [network.key for network in Spy.trained] == [networks[index].key for index in fold.train]
    assert all(type(case.network) is KnownNetwork for case in Spy.asked)
    assert {case.network.structure for case in Spy.asked} == {networks[index].structure for index in fold.test}
    assert len(Spy.asked) == 3 * len(fold.test)
