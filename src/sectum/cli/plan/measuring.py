"""``sectum measure`` of a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sectum.cli.plan import chain_measuring
from sectum.cli.plan.chain import ChainResult, read_any
from sectum.cli.plan.once import measured_difference
from sectum.cli.plan.planning import NATIVE_SHARE, PlanResult, measure_native, measure_plan, measured_json
from sectum.cli.render.figures import count, milliseconds, plural, times
from sectum.cli.render.measurements import outputs_row, predicted_sentence
from sectum.cli.render.output import print_json
from sectum.cli.render.progress import progress_bar
from sectum.cli.render.show import paragraph, remarks, rows, say
from sectum.units import format_bytes


def measure_file(path: Path, *, as_json: bool, runs: int | None, deadline_s: float) -> None:
    """Measure a plan and its network outside an enclave, and print both with the prediction."""
    result = read_any(path)
    with progress_bar() as progress:
        conditions = {"runs": runs, "progress": progress}
        if isinstance(result, ChainResult):
            found = chain_measuring.measured(result, conditions, deadline_s)
        else:
            found = _measured(result, conditions, deadline_s)
    if as_json:
        print_json(found)
        return
    if isinstance(result, ChainResult):
        chain_measuring.show(result, found)
    else:
        _show(result, found)
    remarks([predicted_sentence(result.planned, found["latency_ms"], calibrated=result.calibrated)])


def _measured(result: PlanResult, conditions: dict[str, Any], deadline_s: float) -> dict[str, Any]:
    measured = measure_plan(result, conditions | {"deadline_s": deadline_s * (1 - NATIVE_SHARE)})
    native = measure_native(result, conditions | {"deadline_s": deadline_s * NATIVE_SHARE})
    resident_bytes = result.planned.layout.working_set_bytes
    off = measured_difference(result)
    return measured_json(result, measured, native, measured.latency_ms, off, resident_bytes=resident_bytes)


def _show(result: PlanResult, found: dict[str, Any]) -> None:
    epc, ratio = format_bytes(result.plan.epc_bytes), found["latency_ms"] / found["native_ms"]
    paragraph(
        f"{result.source.name} takes {milliseconds(found['latency_ms'])} in softepc with an EPC of {epc} and a plan of "
        f"{plural(found['stages'], 'stage')}: {times(ratio)} as long as outside."
    )
    say("")
    rows(
        [
            ("latency", milliseconds(found["latency_ms"]), f"measured; {plural(len(found['samples']), 'sample')}"),
            ("outside an enclave", milliseconds(found["native_ms"]), "measured"),
            ("opened", format_bytes(found["opened_bytes"]), "planned; weights opened per inference"),
            ("loads", count(found["loads"] or 0), "measured; pages loaded per inference"),
            ("evictions", count(found["evictions"] or 0), "measured; pages evicted per inference"),
            ("resident", format_bytes(found["resident_bytes"]), "measured; in the EPC"),
            outputs_row(found),
        ],
        right=(1,),
    )
