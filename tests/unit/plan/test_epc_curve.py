"""The curve of latency against EPC size."""

from __future__ import annotations

import pytest

from sectum import zoo
from sectum.enclave import profile as profiles
from sectum.plan.epc_curve import CurvePoint, epc_curve, epc_sizes, latency_curve
from sectum.plan.latency import PlannedLatency
from sectum.predict import load_predictor
from sectum.units import KIB, MIB, PAGE_BYTES


def test_the_sizes_include_both_sides_of_the_step_and_the_given_size():
    """The points show the given EPC and the step at the working set."""
    sizes = epc_sizes(530 * MIB, 93 * MIB)
    assert sizes == sorted(set(sizes))
    assert {93 * MIB, 530 * MIB} <= set(sizes)
    assert any(0.99 * 530 * MIB < size < 530 * MIB for size in sizes)
    assert any(530 * MIB < size < 1.02 * 530 * MIB for size in sizes)
    assert sizes[0] < 93 * MIB
    assert sizes[-1] > 530 * MIB


def test_the_smallest_network_and_enclave_have_a_curve():
    """There are several sizes even below the smallest one that is drawn."""
    assert len(epc_sizes(PAGE_BYTES, 256 * KIB)) > 2


@pytest.fixture(scope="module")
def predictor():
    """The predictor of the command line."""
    return load_predictor()


@pytest.fixture(scope="module")
def prepared(predictor):
    """A small network."""
    return predictor.prepare(zoo.to_graph(zoo.network("squeezenet1_1"), 1))


def test_a_point_is_the_prediction_at_its_size(predictor, prepared):
    """The curve has the numbers that a prediction for that EPC has."""
    enclave = profiles.load("softepc").with_epc(5 * MIB)
    curve = epc_curve(predictor, prepared, enclave)
    there = predictor.in_enclave(prepared, enclave)
    expected = CurvePoint(5 * MIB, there.latency_ms, there.interval_ms.low, there.interval_ms.high)
    assert expected in curve


def test_without_an_epc_there_is_no_curve(predictor, prepared):
    """Outside an enclave the latency depends on no EPC."""
    assert epc_curve(predictor, prepared, profiles.load("native")) == ()


@pytest.mark.slow
def test_a_curve_of_plans_lies_at_or_below_that_of_paging(predictor) -> None:
    """At every EPC the best plan takes no longer than paging, and where the network fits, as long."""
    graph = zoo.to_graph(zoo.network("squeezenet1_1"), 1)
    models, enclave = PlannedLatency(predictor), profiles.load("softepc")
    sizes = [6 * MIB, 8 * MIB, 16 * MIB]
    planned = latency_curve(models, graph, enclave, sizes)
    paged = latency_curve(models.unplanned, graph, enclave, sizes)
    assert [point.epc_bytes for point in planned] == sizes
    assert all(one.latency_ms <= other.latency_ms for one, other in zip(planned, paged, strict=True))
    assert planned[0].latency_ms < paged[0].latency_ms / 2
    assert planned[-1] == paged[-1]
