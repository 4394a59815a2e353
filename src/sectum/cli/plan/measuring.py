"""``sectum measure`` of a plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sectum.cli.plan.planning import PlanResult
    from sectum.measure.measurement import Measurement

_NATIVE_SHARE = 0.25
"""Of the deadline: for the network outside an enclave."""


def measure_file(path: Path, *, as_json: bool, runs: int | None, deadline_s: float) -> None:
    """Measure a plan and its network outside an enclave, and print both with the prediction."""
    from sectum.cli.plan.chain import ChainResult, read_any
    from sectum.cli.plan.planning import measure_native, measure_plan
    from sectum.cli.render.progress import progress_bar

    result = read_any(path)
    if isinstance(result, ChainResult):
        from sectum.cli.plan.chain_measuring import measure

        measure(result, as_json=as_json, runs=runs, deadline_s=deadline_s)
        return
    with progress_bar() as progress:
        conditions = {"runs": runs, "progress": progress, "deadline_s": deadline_s * (1 - _NATIVE_SHARE)}
        measured = measure_plan(result, conditions)
        native = measure_native(result, conditions | {"deadline_s": deadline_s * _NATIVE_SHARE})
    if as_json:
        from sectum.cli.render.output import print_json

        print_json(to_json(result, measured, native))
        return
    _show(result, measured, native)


def to_json(result: PlanResult, measured: Measurement, native: Measurement) -> dict[str, Any]:
    """The measurement as ``sectum measure`` gives it, and what belongs to the plan."""
    planned = result.planned
    return {
        **measured.as_dict(),
        "over_committed": measured.over_committed,
        "kind": measured.context["kind"],
        "native_ms": native.latency_ms,
        "opened_bytes": planned.opened_bytes,
        "stages": len(planned.stages),
        "source": {"model": result.source.text, "sha256": result.source.sha256},
        "prediction": {
            "kind": "predicted",
            "latency_ms": planned.latency_ms,
            "interval_ms": [planned.interval_ms.low, planned.interval_ms.high],
            "resident_bytes": planned.layout.working_set_bytes,
            "error": planned.latency_ms / measured.latency_ms - 1,
            "calibrated": result.calibrated,
            "machine": result.machine,
        },
    }


def _show(result: PlanResult, measured: Measurement, native: Measurement) -> None:
    from sectum.cli.render.figures import count, milliseconds, number, plural, times
    from sectum.cli.render.show import paragraph, rows, say
    from sectum.units import format_bytes

    planned = result.planned
    epc = format_bytes(result.plan.epc_bytes)
    paragraph(
        f"{result.source.name} takes {milliseconds(measured.latency_ms)} in softepc with an EPC of {epc} and a plan of "
        f"{plural(len(planned.stages), 'stage')}: {times(measured.latency_ms / native.latency_ms)} as long as outside."
    )
    say("")
    equal = {True: "equal", False: "DIFFERENT", None: "not compared"}[measured.outputs_equal_native]
    rows(
        [
            ("latency", milliseconds(measured.latency_ms), f"measured; {len(measured.samples)} samples"),
            ("outside an enclave", milliseconds(native.latency_ms), f"measured; {len(native.samples)} samples"),
            ("opened", format_bytes(planned.opened_bytes), "planned; weights opened per inference"),
            ("loads", count(measured.loads or 0), "measured; pages loaded per inference"),
            ("evictions", count(measured.evictions or 0), "measured; pages evicted per inference"),
            ("resident", format_bytes(measured.resident_bytes), "measured; in the EPC"),
            ("outputs", equal, "measured; compared with the native run's, bit for bit"),
        ],
        right=(1,),
    )
    say("")
    low, high = planned.interval_ms.low, planned.interval_ms.high
    paragraph(
        f"Predicted: {milliseconds(planned.latency_ms)} (90 % interval {number(low)} to {milliseconds(high)})"
        + ("." if result.calibrated else ". Not calibrated: the prediction is in another machine's milliseconds."),
        hanging="  ",
    )
