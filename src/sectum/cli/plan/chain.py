"""From the command line's options, or from a file, to a plan for several enclaves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sectum.cli.plan.planning import (
    AnyPlan,
    PlanResult,
    check_is_for,
    parts_of_planner,
    plan_for,
    plan_inputs,
    read_plan,
    stored_plan,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sectum.cli.options import Inputs
    from sectum.cli.predict.source import Source
    from sectum.enclave.profile import Profile
    from sectum.enclave.runners.chain import ChainRunner
    from sectum.enclave.runners.relay import Pace
    from sectum.plan.chain import ChainPlanner
    from sectum.plan.chain_shape import ChainShape
    from sectum.plan.plan_file import Plan
    from sectum.plan.planned_chain import PlannedChain


class ChainResult(AnyPlan):
    """A plan for several enclaves."""

    planned: PlannedChain

    @property
    def shape(self) -> ChainShape:
        """What the plan says of its enclaves."""
        assert self.plan.chain is not None  # made so
        return self.plan.chain

    def _stored(self) -> dict[str, Any]:
        from sectum.plan.chain_file import to_json

        return to_json(self.plan, self.planned, self.graph.layer_names)

    def _prepared(self) -> AbstractContextManager[dict[str, Any]]:
        from sectum.plan.chain_running import prepared_chain

        return prepared_chain(self.source.model.bound_bytes(), self.graph, self.planned, self.shape.enclaves)

    def runner(self) -> ChainRunner:
        """Where it runs."""
        from sectum.enclave.runners.chain import ChainRunner

        return ChainRunner(self.shape.link)


def make_chain(
    model: str,
    *,
    enclave: str,
    epc_bytes: int | None,
    batch: int | None,
    inputs: Inputs,
    threads: int,
    enclaves: int,
    goal: str,
    link: Pace,
    shares: str | None = None,
    int8: bool = False,
) -> ChainResult:
    """Find the best plan for at most so many enclaves; for a comparison, equal ``shares`` instead of the best cuts.

    Raises:
        ModelError: the model cannot be used.
        UsageError: the enclave has no EPC, or values of inputs are given.
    """
    from sectum.cli.predict.predicting import load_profile
    from sectum.cli.predict.source import Source

    plan_inputs(inputs)
    source = Source(model, batch=batch, inputs=inputs)
    profile = load_profile(enclave, epc_bytes)
    return chain_for(
        source, profile, threads, enclave=enclave, enclaves=enclaves, goal=goal, link=link, shares=shares, int8=int8
    )  # fmt: skip


def chain_for(
    source: Source,
    profile: Profile,
    threads: int,
    *,
    enclave: str,
    enclaves: int,
    goal: str,
    link: Pace,
    shares: str | None = None,
    int8: bool = False,
) -> ChainResult:
    """Find the best plan for a network in at most so many enclaves, which the command line called so.

    Raises:
        ModelError: the model cannot be used.
        UsageError: the enclave has no EPC.
    """
    from sectum.plan.chain_file import shape_of

    planner = _planner(source, profile, threads, link, int8=int8)
    if shares is None:
        planned = planner.best_chain(enclaves, goal)
    else:
        planned = planner.at(planner.equal_shares(enclaves)[shares])
    chain = shape_of(planned, goal, planner.epc_bytes, threads, link=link)
    plan = stored_plan(
        source,
        planner,
        threads,
        planned.stages,
        enclave=enclave,
        buffers=max(one.buffers for one in chain.enclaves),
        buffer_bytes=max(one.buffer_bytes for one in chain.enclaves),
        arena_bytes=max(one.arena_bytes for one in chain.enclaves),
        chain=chain,
    )
    return ChainResult(source, planner.graph, plan, planned, planner.calibrated, planner.machine)


def best_of(chain: ChainResult, *, int8: bool) -> PlanResult | ChainResult:
    """The plan for one enclave, where one for several gains nothing over it."""
    from sectum.cli.predict.predicting import load_profile

    planned, plan = chain.planned, chain.plan
    takes_ms = planned.latency_ms if chain.shape.goal == "latency" else planned.pipeline_ms
    if len(planned.enclaves) > 1 and takes_ms < planned.unplanned_ms:
        return chain
    profile = load_profile(plan.enclave, plan.epc_bytes)
    one = plan_for(chain.source, profile, plan.threads, enclave=plan.enclave, int8=int8)
    return one if one.planned.latency_ms <= takes_ms else chain


def read_any(path: Path) -> PlanResult | ChainResult:
    """Read a plan for one enclave or for several, and predict what it takes here.

    Raises:
        ArtefactInvalid: it is no plan, or for another model than the one that it names.
    """
    from sectum.plan.plan_file import read_plan as read

    plan = read(path)
    return read_plan(path) if plan.chain is None else _read_chain(path, plan, plan.chain)


def _read_chain(path: Path, plan: Plan, chain: ChainShape) -> ChainResult:
    from sectum.cli.predict.predicting import load_profile
    from sectum.cli.predict.source import Source

    source = Source(plan.model, batch=plan.batch, inputs=dict(plan.inputs))
    check_is_for(path, plan, source)
    planners = {
        kind: _planner(source, load_profile(plan.enclave, kind[0]), kind[1], chain.link, int8=plan.int8)
        for kind in dict.fromkeys((one.epc_bytes, one.threads) for one in chain.enclaves)
    }
    first = next(iter(planners.values()))
    stages = plan.planned_stages(first.graph)
    planned = first.chain_of(
        planners[one.epc_bytes, one.threads].enclave_with(
            [stage for stage, of in zip(stages, chain.enclave_of, strict=True) if of == number], one.buffers
        )
        for number, one in enumerate(chain.enclaves)
    )
    return ChainResult(source, first.graph, plan, planned, first.calibrated, first.machine)


def _planner(source: Source, profile: Profile, threads: int, link: Pace, *, int8: bool) -> ChainPlanner:
    from sectum.plan.chain import ChainPlanner
    from sectum.plan.links import link_costs_for
    from sectum.predict import load_predictor

    predictor = load_predictor()
    parts = parts_of_planner(predictor, source, profile, threads, int8=int8)
    return ChainPlanner(*parts, link=link, link_costs=link_costs_for(predictor), int8=int8)
