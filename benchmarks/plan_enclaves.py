"""What a good split over enclaves gains: the plan, and equal shares of operators and of weights, measured in one run.

    python benchmarks/plan_enclaves.py [--case resnet152:93MiB:3:latency ...] [--rounds 3] [--runs 5] [--json]

A case is a network of the zoo or a file, the EPC of each enclave, the number of enclaves, and the goal. Each round
measures each way to split once, a request in one enclave at a time; the figure is the median of the rounds. Latency is
that of one request with all links, which are paced to 10 Gbps and 0.1 ms. The time between results is that of the
slowest enclave, as measured: this machine may have fewer cores than a pipeline needs. Let nothing else run meanwhile.
Run 'sectum calibrate' first, so that predictions are in this machine's milliseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import Any

from sectum.cli.plan.chain import ChainResult, make_chain
from sectum.cli.plan.chain_measuring import measured
from sectum.plan.links import DEFAULT_LINK
from sectum.units import MIB, parse_bytes

CASES = (
    "resnet152:93MiB:3:latency", "resnet152:93MiB:8:throughput", "resnet152:48MiB:4:latency", "vgg16:93MiB:4:latency",
    "vgg16:93MiB:4:throughput", "resnet50:32MiB:4:latency", "resnet50:32MiB:4:throughput", "alexnet:64MiB:4:latency",
    "densenet121:24MiB:3:throughput", "mobilenet_v2:12MiB:3:throughput", "deit_small:32MiB:3:latency",
)  # fmt: skip
WAYS = {"plan": None, "operators": "operators", "weights": "weights"}


def split(case: str, shares: str | None) -> ChainResult:
    """One way to split the network of a case."""
    model, epc, enclaves, goal = case.rsplit(":", 3)
    name = model if model.endswith(".onnx") else f"zoo:{model}"
    return make_chain(
        name, enclave="softepc", epc_bytes=parse_bytes(epc), batch=None, inputs={}, threads=1, enclaves=int(enclaves),
        goal=goal, link=DEFAULT_LINK, shares=shares,
    )  # fmt: skip


def figures(case: str, rounds: int, runs: int, deadline_s: float) -> dict[str, Any]:
    """All figures of a case."""
    ways = {name: split(case, shares) for name, shares in WAYS.items()}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(measured(way, {"runs": runs}, deadline_s))
    return {"case": case, "kind": "measured", **{name: _summary(ways[name], rows) for name, rows in found.items()}}


def _summary(way: ChainResult, rows: list[dict[str, Any]]) -> dict[str, Any]:
    middle = {name: statistics.median(row[name] for row in rows) for name in ("latency_ms", "pipeline_ms", "native_ms")}
    busy_ms = [
        statistics.median(row["enclaves"][place]["busy_ms"] for row in rows)
        for place in range(len(way.planned.enclaves))
    ]
    return {
        **middle,
        "busy_ms": busy_ms,
        "predicted": {
            "latency_ms": way.planned.latency_ms,
            "pipeline_ms": way.planned.pipeline_ms,
            "busy_ms": [one.busy_ms for one in way.planned.enclaves],
            "calibrated": way.calibrated,
        },
        "most_resident_bytes": max(one["peak_resident_bytes"] for row in rows for one in row["enclaves"]),
        "loads": sum(one["loads"] for one in rows[-1]["enclaves"]),
        "opened_bytes": rows[-1]["opened_bytes"],
        "outputs_equal_native": all(row["outputs_equal_native"] for row in rows),
    }


def show(row: dict[str, Any]) -> None:
    """Print a case."""
    for name in WAYS:
        one = row[name]
        predicted = one["predicted"]
        off = [found / expected for found, expected in zip(predicted["busy_ms"], one["busy_ms"], strict=True)]
        print(
            f"{row['case']:32} {name:9} {len(off)} enclaves  latency {one['latency_ms']:7.1f} ms "
            f"(predicted {predicted['latency_ms']:7.1f})  between results {one['pipeline_ms']:6.1f} "
            f"({predicted['pipeline_ms']:6.1f})  native {one['native_ms']:6.1f}  enclaves off by "
            f"{min(off) - 1:+.0%} to {max(off) - 1:+.0%}  {one['most_resident_bytes'] / MIB:.1f} MiB at most, "
            f"{one['loads']:.0f} loads, outputs {'equal' if one['outputs_equal_native'] else 'DIFFER'}",
            flush=True,
        )


def main() -> None:
    """Measure the cases."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--case", action="append", help="NETWORK:EPC:ENCLAVES:GOAL, such as vgg16:93MiB:4:latency")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=5, help="inferences in each process")
    parser.add_argument("--deadline", type=float, default=180.0, help="seconds for each measurement")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for case in options.case or CASES:
        rows.append(figures(case, options.rounds, options.runs, options.deadline))
        if not options.json:
            show(rows[-1])
    if options.json:
        json.dump(rows, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
