"""Plans keep within the EPC, and are never slower than no plan."""

from __future__ import annotations

import itertools

import pytest

from sectum.enclave import profile
from sectum.errors import UsageError
from sectum.plan.evaluation import Shared
from sectum.plan.layout import RUNTIME_BYTES, lay_out
from sectum.plan.opening import OpeningCosts
from sectum.plan.planned import Planned
from sectum.plan.planning import Planner
from sectum.plan.units import units
from sectum.units import MIB

COSTS = OpeningCosts(0.2, 0.25, stage_ms=0.1)


def planner(predictor, graph, enclave, epc_bytes: int, threads: int = 1) -> Planner:
    """A planner for a network in an EPC."""
    fewer = predictor.prepare(graph, threads=threads - 1) if threads > 1 else None
    prepared = predictor.prepare(graph, threads=threads)
    return Planner(predictor, prepared, enclave.with_epc(epc_bytes), COSTS, fewer)


@pytest.mark.slow
@pytest.mark.parametrize("epc_mib", [12, 32, 93])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_plan_is_faster_and_fits(predictor, alexnet, softepc, epc_mib: int, threads: int) -> None:
    """AlexNet's weights never fit; its plan does, opens what does not stay, and takes a fraction of paging."""
    made = planner(predictor, alexnet, softepc, epc_mib * MIB, threads)
    plan = made.best()
    weights = sum(stage.weight_bytes for stage in plan.stages)
    assert plan.layout.working_set_bytes <= epc_mib * MIB
    assert plan.latency_ms < plan.unplanned_ms / 3
    assert plan.opened_bytes + plan.layout.resident_weight_bytes == weights
    assert plan.interval_ms.low < plan.latency_ms < plan.interval_ms.high
    assert max(stage.weight_bytes for stage in plan.stages if stage.streamed) <= max(plan.layout.buffer_bytes)


@pytest.mark.slow
def test_stages_follow_each_other(predictor, alexnet, softepc) -> None:
    """Stages cover every operator once, and the parts of a divided one cover its channels."""
    plan = planner(predictor, alexnet, softepc, 16 * MIB).best()
    at, channel = 0, 0
    for stage in plan.stages:
        assert stage.first == at
        if stage.channels is None:
            at = stage.last + 1
            continue
        assert stage.channels[0] == channel
        channel = stage.channels[1] % stage.of_channels
        at += not channel
    assert any(stage.channels for stage in plan.stages)


def described(plan: Planned) -> list[tuple[object, ...]]:
    """The stages of a plan, as its file has them."""
    return [(one.first, one.last, one.streamed, one.division and one.division.rows) for one in plan.stages]


@pytest.mark.slow
def test_plans_are_the_same_with_what_earlier_ones_left(predictor, squeezenet, softepc) -> None:
    """A search that plans many networks gets the plans of 'sectum plan', stage for stage, with the same times."""
    from sectum.paging.compiled_replacement import compiled_replacement

    shared = Shared(compiled=compiled_replacement())
    for epc_mib in (5, 4):
        for _ in range(2):
            profile = softepc.with_epc(epc_mib * MIB)
            prepared = predictor.prepare(squeezenet)
            later = Planner(predictor, prepared, profile, COSTS, shared=shared).best()
            alone = planner(predictor, squeezenet, softepc, epc_mib * MIB).best()
            assert described(later) == described(alone)
            assert (later.latency_ms, later.interval_ms, later.buffers) == (
                alone.latency_ms, alone.interval_ms, alone.buffers,
            )  # fmt: skip


def test_what_fits_is_left_alone(predictor, squeezenet, softepc) -> None:
    """A network that fits gets no stages, and its prediction is the one without a plan."""
    plan = planner(predictor, squeezenet, softepc, 93 * MIB).best()
    assert plan.as_it_is
    assert plan.latency_ms == plan.unplanned_ms


@pytest.mark.slow
@pytest.mark.parametrize("epc_mib", [4, 4.5])
def test_activations_that_do_not_fit_are_computed_in_strips(predictor, squeezenet, softepc, epc_mib: float) -> None:
    """SqueezeNet's activations take 3.7 MiB at once, beside the process's own; in strips they fit, without paging."""
    made = planner(predictor, squeezenet, softepc, int(epc_mib * MIB))
    assert made.graph.lifetimes.peak_bytes + RUNTIME_BYTES > epc_mib * MIB
    plan = made.best()
    assert any(stage.division for stage in plan.stages)
    assert plan.layout.working_set_bytes <= epc_mib * MIB
    assert sum(one.paging_ms for one in plan.by_stage) == 0
    assert plan.latency_ms < plan.unplanned_ms / 2
    assert made.evaluate(plan.stages, plan.buffers, plan.way.order).latency_ms == pytest.approx(plan.latency_ms)


@pytest.mark.slow
def test_less_epc_never_makes_a_plan_faster(predictor, squeezenet, softepc) -> None:
    """Planned latency falls, or stays, as the EPC grows, but for the grain of the search."""
    times = [planner(predictor, squeezenet, softepc, size * MIB).best().latency_ms for size in (4, 6, 8, 12)]
    assert all(later <= earlier * 1.02 for earlier, later in itertools.pairwise(times))


def test_a_given_plan_is_predicted_like_a_found_one(predictor, alexnet, softepc) -> None:
    """Evaluating the stages of the best plan gives its latency."""
    made = planner(predictor, alexnet, softepc, 32 * MIB)
    best = made.best()
    assert made.evaluate(best.stages, best.buffers).latency_ms == pytest.approx(best.latency_ms)


def test_an_enclave_without_epc_needs_no_plan(predictor, squeezenet) -> None:
    """Profiles without an EPC are refused, and two buffers with one thread too."""
    with pytest.raises(UsageError, match="no EPC"):
        Planner(predictor, predictor.prepare(squeezenet), profile.load("native"), COSTS)


def test_two_buffers_need_two_threads(predictor, alexnet, softepc) -> None:
    """A plan that opens ahead is refused where one thread does everything."""
    made = planner(predictor, alexnet, softepc, 32 * MIB)
    with pytest.raises(UsageError, match="threads 2"):
        made.evaluate(made.best().stages, 2)


def test_parts_of_an_operator_share_its_weights_and_time(predictor, alexnet) -> None:
    """Parts have the sum of the operator's weights, and of its time, and none is larger than the buffer."""
    prepared = predictor.prepare(alexnet)
    times = prepared.native_ms.tolist()
    whole, parts = (units(prepared.optimized, times, size, {}) for size in (1 << 40, 4 * MIB))
    assert sum(one.compute_ms for one in parts) == pytest.approx(sum(one.compute_ms for one in whole))
    assert sum(one.weight_bytes for one in parts) == pytest.approx(sum(one.weight_bytes for one in whole), rel=1e-3)
    assert max(one.weight_bytes for one in parts) <= 4 * MIB


def test_layout_counts_what_stays_and_what_is_carried(predictor, squeezenet) -> None:
    """The fewer stages, the less is carried between them; one stage needs the memory that the runtime plans."""
    prepared = predictor.prepare(squeezenet)
    graph = prepared.optimized
    from plans import evenly

    one, many = (lay_out(graph, evenly(graph, count), 1, 1) for count in (1, 8))
    assert one.buffer_bytes[0] > many.buffer_bytes[0]
    assert graph.lifetimes.peak_bytes * 0.5 < one.arena_bytes < many.arena_bytes * 1.5
    assert all(touch.n_pages > 0 for touch in many.touches)
