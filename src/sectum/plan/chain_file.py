"""A plan for several enclaves as JSON types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sectum.plan.chain_shape import ChainShape, EnclaveShape
from sectum.plan.plan_file import Plan, head_to_json, stage_to_json
from sectum.plan.planned_chain import PlannedChain, PlannedEnclave


def to_json(plan: Plan, planned: PlannedChain, layer_names: Sequence[str]) -> dict[str, Any]:
    """A plan for several enclaves with its predictions as JSON types.

    Raises:
        ValueError: the plan is for one enclave.
    """
    chain = plan.chain
    if chain is None:
        raise ValueError("this plan is for one enclave")
    stages: list[dict[str, Any]] = []
    unplanned = planned.unplanned_interval_ms
    for number, enclave in enumerate(planned.enclaves):
        for stage, predicted in zip(enclave.stages, enclave.by_stage, strict=True):
            stages.append(stage_to_json(len(stages), stage, predicted, layer_names, number))
    return {
        **head_to_json(plan),
        "goal": chain.goal,
        "link": {"bits_per_s": chain.link.bits_per_s, "delay_ms": chain.link.delay_ms,
                 "seal_ms_per_mib": planned.link_costs.seal_ms_per_mib,
                 "open_ms_per_mib": planned.link_costs.open_ms_per_mib,
                 "message_ms": planned.link_costs.message_ms, "kind": planned.link_costs.kind},
        "latency_ms": planned.latency_ms,
        "interval_ms": [planned.interval_ms.low, planned.interval_ms.high],
        "pipeline_ms": planned.pipeline_ms,
        "requests_per_s": 1e3 / planned.pipeline_ms,
        "native_ms": planned.native_ms,
        "unplanned_ms": planned.unplanned_ms,
        "unplanned_interval_ms": [unplanned.low, unplanned.high],
        "resident_bytes": max(one.layout.working_set_bytes for one in planned.enclaves),
        "opened_bytes": planned.opened_bytes,
        "outputs_equal_native": not planned.changes_outputs,
        "opening": planned.costs.to_json(int8=planned.changes_outputs),
        "enclaves": [_enclave(*both) for both in zip(chain.enclaves, planned.enclaves, strict=True)],
        "stages": stages,
    }  # fmt: skip


def _enclave(shape: EnclaveShape, planned: PlannedEnclave) -> dict[str, Any]:
    return {
        "epc_bytes": shape.epc_bytes,
        "threads": shape.threads,
        "buffers": shape.buffers,
        "buffer_bytes": shape.buffer_bytes,
        "arena_bytes": shape.arena_bytes,
        "resident_bytes": planned.layout.working_set_bytes,
        "opened_bytes": planned.opened_bytes,
        "received_bytes": planned.received_bytes,
        "sent_bytes": planned.sent_bytes,
        "busy_ms": planned.busy_ms,
        "interval_ms": [planned.interval_ms.low, planned.interval_ms.high],
        "link_opening_ms": planned.opening_ms,
        "link_sealing_ms": planned.sealing_ms,
        "link_ms": planned.link_ms,
        "loads": sum(one.loads for one in planned.by_stage),
    }


def shape_of(planned: PlannedChain, goal: str, epc_bytes: int, threads: int, **link: Any) -> ChainShape:
    """What the file says of the enclaves of a plan that was found.

    Args:
        planned: the plan.
        goal: of it.
        epc_bytes: of each enclave.
        threads: of each enclave.
        link: the link, as ``link``.
    """
    return ChainShape(
        goal=goal,
        enclaves=tuple(
            EnclaveShape(epc_bytes, threads, one.buffers, max(one.layout.buffer_bytes), one.layout.arena_bytes)
            for one in planned.enclaves
        ),
        enclave_of=tuple(number for number, one in enumerate(planned.enclaves) for _ in one.stages),
        **link,
    )
