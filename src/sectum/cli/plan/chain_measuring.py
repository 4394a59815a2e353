"""``sectum measure`` of a plan for several enclaves."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sectum.cli.plan.once import measured_difference
from sectum.cli.plan.planning import NATIVE_SHARE, measure_native, measure_plan, measured_json
from sectum.cli.render.figures import count, milliseconds, number, plural, times
from sectum.cli.render.measurements import outputs_row
from sectum.cli.render.show import paragraph, rows, say
from sectum.errors import EnclaveDeadline
from sectum.units import MIB, format_bytes

if TYPE_CHECKING:
    from sectum.cli.plan.chain import ChainResult
    from sectum.enclave.runners.chain import Observed
    from sectum.measure.measurement import Measurement

_PIPELINE_SHARE = 0.25
"""Of the deadline: for requests that follow each other."""
_REQUESTS = 20


def measured(result: ChainResult, conditions: dict[str, Any], deadline_s: float) -> dict[str, Any]:
    """What ``sectum measure`` gives, and what each enclave and each link took.

    An inference passes through one enclave at a time. The time of each enclave is normalized by reference kernels as
    all times are; that of a link is wall time, and paced: the relay waits as long as a link of the plan would take.
    """
    together = sum(one.threads for one in result.shape.enclaves) <= len(os.sched_getaffinity(0))
    pipeline_s = _PIPELINE_SHARE * deadline_s if together else 0.0
    pipeline = _pipeline(result, pipeline_s) if together else None
    runner = result.runner()
    chain = measure_plan(
        result, conditions | {"deadline_s": deadline_s * (1 - NATIVE_SHARE) - pipeline_s}, runner=runner
    )
    native = measure_native(result, conditions | {"deadline_s": deadline_s * NATIVE_SHARE})
    planned, enclaves = result.planned, _enclaves(result, chain, runner.observed[-1])
    latency_ms = chain.latency_ms + sum(one["link_ms"] or 0.0 for one in enclaves)
    found = measured_json(
        result,
        chain,
        native,
        latency_ms,
        measured_difference(result),
        pipeline_ms=planned.pipeline_ms,
        resident_bytes=[one.layout.working_set_bytes for one in planned.enclaves],
    )
    return found | {
        "computing_ms": chain.latency_ms,
        "pipeline_ms": max(one["busy_ms"] for one in enclaves),
        "pipeline_together_ms": pipeline,
        "opened_bytes": sum(one["opened_bytes"] for one in enclaves),
        "enclaves": enclaves,
    }


def _pipeline(result: ChainResult, deadline_s: float) -> float | None:
    """Mean time between two results when requests follow each other; None where there is too little time."""
    from sectum.enclave.runners.runner import Job
    from sectum.measure.input_ranges import input_ranges

    model = result.source.model
    with result.streams() as streams:
        job = Job(
            model=b"",
            input_ranges=input_ranges(model.graph),
            inputs=model.feeds,
            deadline_s=deadline_s,
            streams=streams,
        )
        with suppress(EnclaveDeadline), result.runner().start(job) as session:
            session.between_results_ms(_REQUESTS)  # the runtime plans its memory, and pages settle
            return session.between_results_ms(_REQUESTS)
    return None


def _enclaves(result: ChainResult, chain: Measurement, observed: tuple[Observed, ...]) -> list[dict[str, Any]]:
    """Of each enclave: its share of the measured time, its pages and bytes, and what was predicted."""
    used = sum(1 for row in chain.samples if row["process"] == chain.processes - 1)
    rows = [one.samples[-used:] for one in observed]  # without those that warmed up
    whole = sum(sample.latency_ns for samples in rows for sample in samples)
    found = []
    for one, samples, planned, shape in zip(
        observed, rows, result.planned.enclaves, result.shape.enclaves, strict=True
    ):
        n = max(1, len(samples))
        own = sum(sample.latency_ns for sample in samples)
        found.append(
            {
                "kind": "measured",
                "epc_bytes": shape.epc_bytes,
                "busy_ms": chain.latency_ms * own / max(1, whole),
                "loads": sum(sample.loads for sample in samples) / n,
                "evictions": sum(sample.evictions for sample in samples) / n,
                "resident_bytes": one.memory.resident_bytes,
                "peak_resident_bytes": one.memory.peak_resident_bytes,
                "opened_bytes": one.streaming["opened_bytes"],
                "received_bytes": one.streaming["received_bytes"],
                "sent_bytes": one.streaming["sent_bytes"],
                "link_opening_ms": one.streaming["link_opening_ns"] / 1e6,
                "link_sealing_ms": one.streaming["link_sealing_ns"] / 1e6,
                "link_ms": one.link_ms,
                "predicted": {
                    "busy_ms": planned.busy_ms,
                    "interval_ms": [planned.interval_ms.low, planned.interval_ms.high],
                    "loads": sum(stage.loads for stage in planned.by_stage),
                    "resident_bytes": planned.layout.working_set_bytes,
                    "opened_bytes": planned.opened_bytes,
                    "sent_bytes": planned.sent_bytes,
                    "link_ms": planned.link_ms,
                },
            }
        )
    return found


def show(result: ChainResult, found: dict[str, Any]) -> None:
    """Print what was measured of each enclave."""
    enclaves = plural(len(found["enclaves"]), "enclave")
    paragraph(
        f"{result.source.name} takes {milliseconds(found['latency_ms'])} in {enclaves} of "
        f"{format_bytes(result.plan.epc_bytes)}: {times(found['latency_ms'] / found['native_ms'])} as long as outside."
    )
    say("")
    links_ms = found["latency_ms"] - found["computing_ms"]
    rows(
        [
            ("latency", milliseconds(found["latency_ms"]), f"measured; {plural(len(found['samples']), 'sample')}"),
            ("  enclaves", milliseconds(found["computing_ms"]), "measured; one after the other"),
            ("  links", milliseconds(links_ms), "measured; paced to the plan's links"),
            ("between results", milliseconds(found["pipeline_ms"]), "the slowest enclave, as measured"),
            *(
                [("  together", milliseconds(together), "measured; requests follow each other; wall time")]
                if (together := found["pipeline_together_ms"]) is not None
                else []
            ),
            ("outside an enclave", milliseconds(found["native_ms"]), "measured"),
            outputs_row(found),
        ],
        right=(1,),
    )
    say("")
    rows(
        [
            (
                str(place),
                number(one["busy_ms"]),
                number(one["predicted"]["busy_ms"]),
                "" if one["link_ms"] is None else number(one["link_ms"]),
                count(one["loads"]),
                number(one["resident_bytes"] / MIB),
                number(one["predicted"]["resident_bytes"] / MIB),
                format_bytes(one["opened_bytes"]),
                format_bytes(one["sent_bytes"]),
            )
            for place, one in enumerate(found["enclaves"])
        ],
        right=range(9),
        header=("#", "busy ms", "predicted", "link ms", "loads", "resident MiB", "predicted", "opened", "sent"),
    )
