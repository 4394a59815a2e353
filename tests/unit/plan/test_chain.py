"""Plans for several enclaves keep within each EPC, and are never worse than equal shares."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sectum.enclave.runners.relay import Pace
from sectum.errors import UsageError
from sectum.plan.chain import ChainPlanner
from sectum.plan.chain_shape import MOST_ENCLAVES
from sectum.plan.links import LinkCosts, crossing_bytes, names_before
from sectum.plan.opening import OpeningCosts
from sectum.plan.segments import segment_of
from sectum.units import MIB

COSTS = OpeningCosts(0.2, 0.25, stage_ms=0.1)
LINK = Pace(bits_per_s=1e10, delay_ms=0.1)
LINK_COSTS = LinkCosts(seal_ms_per_mib=0.3, open_ms_per_mib=0.4, message_ms=0.05)


def planner(predictor, graph, enclave, epc_bytes: int, threads: int = 1, link: Pace = LINK) -> ChainPlanner:
    """A planner for a network in enclaves of one size."""
    fewer = predictor.prepare(graph, threads=threads - 1) if threads > 1 else None
    prepared = predictor.prepare(graph, threads=threads)
    return ChainPlanner(
        predictor, prepared, enclave.with_epc(epc_bytes), COSTS, fewer, link=link, link_costs=LINK_COSTS
    )


@pytest.fixture(scope="module")
def small(predictor, squeezenet, softepc) -> ChainPlanner:
    """SqueezeNet, whose 4.8 MiB of weights and 5 MiB of activations do not fit."""
    return planner(predictor, squeezenet, softepc, 7 * MIB)


@pytest.mark.parametrize("goal", ["latency", "throughput"])
@pytest.mark.parametrize("enclaves", [1, 2, 4])
def test_every_enclave_keeps_within_its_epc(small, goal: str, enclaves: int) -> None:
    """No working set exceeds the EPC, there are no more enclaves than allowed, and stages cover all operators."""
    chain = small.best_chain(enclaves, goal)
    assert 1 <= len(chain.enclaves) <= enclaves
    assert all(one.layout.working_set_bytes <= 7 * MIB for one in chain.enclaves)
    assert chain.stages[0].first == 0
    assert chain.stages[-1].last == len(small.graph.operators) - 1
    for before, after in pairwise(chain.stages):
        assert after.first == (before.last if after.channels and after.channels[0] else before.last + 1)
    assert chain.interval_ms.low < chain.latency_ms < chain.interval_ms.high


def test_latency_is_the_sum_and_the_pipeline_its_slowest_part(small) -> None:
    """One request passes through all enclaves and links; the rate is that of the slowest."""
    chain = small.best_chain(3, "throughput")
    first, *_, last = chain.enclaves
    assert chain.latency_ms == pytest.approx(sum(one.busy_ms + one.link_ms for one in chain.enclaves))
    assert chain.pipeline_ms == max(one.busy_ms for one in chain.enclaves)
    assert (first.received_bytes, last.sent_bytes, last.link_ms) == (0, 0, 0.0)
    for before, after in pairwise(chain.enclaves):
        assert before.sent_bytes == after.received_bytes > 0
        assert before.link_ms == pytest.approx(0.1 + 8e3 * before.sent_bytes / 1e10)


@pytest.mark.parametrize("goal", ["latency", "throughput"])
def test_a_plan_is_never_worse_than_equal_shares(small, goal: str) -> None:
    """Equal shares of operators, of weights and of time are not better."""
    best = small.best_chain(3, goal).key(goal)
    assert all(best <= small.at(bounds).key(goal) for bounds in small.equal_shares(3).values())


def test_more_enclaves_are_never_slower(small) -> None:
    """With more enclaves allowed, neither goal gets worse, but for the grain of the search."""
    for goal in ("latency", "throughput"):
        found = [small.best_chain(count, goal).key(goal)[1] for count in (1, 2, 3, 4)]
        assert all(after <= before * 1.02 for before, after in pairwise(found))


def test_a_slow_link_is_not_used(predictor, squeezenet, softepc) -> None:
    """Where a link takes a second, one enclave streams rather than that another one helps."""
    made = planner(predictor, squeezenet, softepc, 7 * MIB, link=Pace(1e6, 1000.0))
    chain = made.best_chain(4, "latency")
    assert len(chain.enclaves) == 1
    assert chain.opened_bytes > 0


def test_weights_that_fit_together_stay(predictor, squeezenet, softepc) -> None:
    """Four enclaves of 7 MiB keep all weights of a network that does not fit into one, and stream nothing."""
    chain = planner(predictor, squeezenet, softepc, 7 * MIB).best_chain(4, "latency")
    assert chain.opened_bytes == 0
    assert len(chain.enclaves) > 1


@pytest.mark.slow
def test_parts_of_one_operator_may_be_in_several_enclaves(predictor, alexnet, softepc) -> None:
    """AlexNet's first dense layer has more weights than an enclave of 64 MiB holds, and is shared."""
    made = planner(predictor, alexnet, softepc, 64 * MIB)
    chain = made.best_chain(6, "latency")
    assert chain.opened_bytes == 0
    starts = [one.stages[0] for one in chain.enclaves[1:]]
    assert any(stage.channels and stage.channels[0] for stage in starts)
    assert all(one.layout.working_set_bytes <= 64 * MIB for one in chain.enclaves)


@pytest.mark.slow
def test_a_thread_may_open_ahead_in_each_enclave(predictor, alexnet, softepc) -> None:
    """With four threads an enclave may have several buffers, and the plan still fits."""
    chain = planner(predictor, alexnet, softepc, 32 * MIB, threads=4).best_chain(2, "throughput")
    assert all(one.layout.working_set_bytes <= 32 * MIB for one in chain.enclaves)
    assert max(one.buffers for one in chain.enclaves) > 1


def test_given_stages_are_predicted_like_found_ones(small) -> None:
    """Evaluating the stages of a found plan gives its latency, enclave by enclave."""
    chain = small.best_chain(3, "latency")
    again = small.chain_of(small.enclave_with(one.stages, one.buffers) for one in chain.enclaves)
    assert again.latency_ms == pytest.approx(chain.latency_ms)
    assert [one.sent_bytes for one in again.enclaves] == [one.sent_bytes for one in chain.enclaves]


def test_wrong_numbers_of_enclaves_are_refused(small) -> None:
    """No enclave, and more than there may be, are errors of the caller."""
    for count in (0, MOST_ENCLAVES + 1):
        with pytest.raises(UsageError, match="out of range"):
            small.best_chain(count)


def test_what_crosses_is_what_is_alive(small) -> None:
    """The bytes that cross before an operator are those of the named tensors, and a segment reads just these."""
    graph = small.graph
    crossing = crossing_bytes(graph)
    for place in (1, len(graph.operators) // 2, len(graph.operators) - 1):
        names = names_before(graph, place)
        assert crossing[place] == sum(graph.n_bytes[name] for name in names)
        read = {name for op in graph.operators[place:] for name in op.inputs} - graph.weight_names
        made = {name for op in graph.operators[place:] for name in op.outputs}
        assert read - made - {""} <= set(names)
        assert set(segment_of(graph, place, len(graph.operators) - 1).inputs) == set(names)
