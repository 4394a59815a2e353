"""What a plan gains: plan, plain paging and native, measured in turn in one run.

    python benchmarks/plan.py [--case vgg16:93MiB:1 ...] [--rounds 3] [--runs 5] [--deadline 120] [--unpaged] [--json]

A case is a network of the zoo or a file, an EPC, and a number of threads. Each round starts each of the three once:
the network outside an enclave, the plan in the software enclave, and, but with --unpaged, the network there without a
plan. A latency is a ratio to the reference kernels around it, so a slower moment of the machine cancels; the figure is
the median of the rounds. Printed beside it: the prediction, the weights that were opened, the pages that were loaded,
the most memory that was resident, and whether the outputs were those of the native run, bit for bit. Let nothing else
run meanwhile. Run 'sectum calibrate' first, so that predictions are in this machine's milliseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import Any

from sectum.cli.plan.planning import PlanResult, make_plan, measure_native, measure_plan
from sectum.measure.measurement import Measurement
from sectum.units import format_bytes, parse_bytes

CASES = (
    "vgg16:93MiB:1", "vgg16:93MiB:2", "vgg16:48MiB:1", "resnet152:93MiB:1", "resnet50:93MiB:1", "resnet50:32MiB:1",
    "alexnet:93MiB:1", "alexnet:93MiB:2", "mobilenet_v2:12MiB:1", "densenet121:24MiB:1", "squeezenet1_1:93MiB:1",
)  # fmt: skip


def planned(case: str) -> PlanResult:
    """The best plan of a case."""
    model, epc, threads = case.rsplit(":", 2)
    name = model if model.endswith(".onnx") else f"zoo:{model}"
    return make_plan(name, enclave="softepc", epc_bytes=parse_bytes(epc), batch=None, inputs={}, threads=int(threads))


def measured(case: str, rounds: int, conditions: dict[str, Any], *, unpaged: bool) -> dict[str, Any]:
    """All figures of a case."""
    result = planned(case)
    found: dict[str, list[Measurement]] = {"native": [], "planned": [], "unplanned": []}
    for _ in range(rounds):
        found["native"].append(measure_native(result, conditions))
        found["planned"].append(measure_plan(result, conditions))
        if not unpaged:
            found["unplanned"].append(measure_plan(result, conditions, planned=False))
    latency_ms = {
        name: statistics.median(one.latency_ms for one in rows) if rows else None for name, rows in found.items()
    }
    plan, last = result.planned, found["planned"][-1]
    return {
        "case": case,
        "kind": "measured",
        "latency_ms": latency_ms,
        "over_native": latency_ms["planned"] / latency_ms["native"],
        "predicted_ms": {
            "native": plan.native_ms, "planned": plan.latency_ms, "unplanned": plan.unplanned_ms,
            "calibrated": result.calibrated,
        },
        "stages": len(plan.stages),
        "buffers": plan.buffers,
        "opened_bytes": plan.opened_bytes,
        "predicted_resident_bytes": plan.layout.working_set_bytes,
        "resident_bytes": max(one.resident_bytes for one in found["planned"]),
        "peak_resident_bytes": max(one.peak_resident_bytes for one in found["planned"]),
        "loads": last.loads,
        "outputs_equal_native": all(one.outputs_equal_native for one in found["planned"]),
    }  # fmt: skip


def show(row: dict[str, Any]) -> None:
    """Print a case."""
    times, predicted = row["latency_ms"], row["predicted_ms"]
    unplanned = "not measured" if times["unplanned"] is None else f"{times['unplanned']:.1f}"
    print(
        f"{row['case']:22} native {times['native']:7.1f}  plan {times['planned']:7.1f} ({row['over_native']:.2f} x)  "
        f"paging {unplanned}  predicted {predicted['planned']:.1f} and {predicted['unplanned']:.1f} ms  "
        f"{row['stages']} stages, {format_bytes(row['opened_bytes'])} opened, {row['loads']:.0f} loads, "
        f"{format_bytes(row['resident_bytes'])} resident, "
        f"outputs {'equal' if row['outputs_equal_native'] else 'DIFFER'}",
        flush=True,
    )


def main() -> None:
    """Measure the cases."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--case", action="append", help="NETWORK:EPC:THREADS, such as vgg16:93MiB:1")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=5, help="inferences in each process")
    parser.add_argument("--deadline", type=float, default=120.0, help="seconds for each process")
    parser.add_argument("--unpaged", action="store_true", help="leave the network without a plan out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    conditions = {"runs": options.runs, "deadline_s": options.deadline}
    rows = []
    for case in options.case or CASES:
        rows.append(measured(case, options.rounds, conditions, unpaged=options.unpaged))
        if not options.json:
            show(rows[-1])
    if options.json:
        json.dump(rows, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
