"""What a good split over enclaves gains: the plan, and equal shares of operators and of weights, measured in one run.

    python benchmarks/plan_enclaves.py [--case resnet152:93MiB:3:latency ...] [--rounds 2] [--runs 5]
                                       [--results FILE] [--json]

On an idle machine of two cores a case takes two to five minutes, and all of them about 35 minutes. With --results, each
round is added to the file when it ends, and rounds that are there are not measured again: a run that was stopped goes
on. Let nothing else run meanwhile. Run 'sectum calibrate' first, so that predictions are in this machine's
milliseconds.

A case is a network of the zoo or a file, the EPC of each enclave, the number of enclaves, and the goal. Each round
measures each way to split once, a request in one enclave at a time; the figure is the median of the rounds. A way that
cuts where the plan does is the plan, and is not measured again. Latency is that of one request with all links, which
are paced to 10 Gbps and 0.1 ms. The time between results is that of the slowest enclave, as measured: this machine may
have fewer cores than a pipeline needs.

Two bars: the times of enclaves and the total of a plan are within 10 % of what was predicted, for 85 % of plans; and
what the plan's goal makes small is no larger than with equal shares, beyond noise: 3 %, or the difference between the
rounds where that is more.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from plan import Results, common_options, each

from sectum.cli.plan.chain import ChainResult, make_chain
from sectum.cli.plan.chain_measuring import measured
from sectum.plan.links import DEFAULT_LINK
from sectum.units import MIB, parse_bytes

CASES = (
    "resnet152:93MiB:3:latency", "vgg16:93MiB:8:latency", "alexnet:93MiB:3:latency", "resnet50:93MiB:2:latency",
    "resnet101:93MiB:2:latency", "bert_base:93MiB:6:latency", "resnet152:93MiB:8:throughput",
    "vgg16:93MiB:4:throughput", "inception_v3:93MiB:3:throughput", "densenet161:93MiB:3:throughput",
)  # fmt: skip
WAYS = {"plan": None, "operators": "operators", "weights": "weights"}
NOISE, NEAR, MOST_OF_PLANS = 0.03, 0.1, 0.85


def split(case: str, shares: str | None) -> ChainResult:
    """One way to split the network of a case."""
    model, epc, enclaves, goal = case.rsplit(":", 3)
    name = model if model.endswith(".onnx") else f"zoo:{model}"
    return make_chain(
        name, enclave="softepc", epc_bytes=parse_bytes(epc), batch=None, inputs={}, threads=1, enclaves=int(enclaves),
        goal=goal, link=DEFAULT_LINK, shares=shares,
    )  # fmt: skip


def figures(case: str, rounds: int, runs: int, deadline_s: float, results: Results) -> dict[str, Any]:
    """All figures of a case."""
    ways = {name: split(case, shares) for name, shares in WAYS.items()}
    planned = ways["plan"].planned.stages
    ways = {name: way for name, way in ways.items() if name == "plan" or way.planned.stages != planned}
    found = {name: results.of(case=case, way=name)[:rounds] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            if len(found[name]) <= number:
                row = _round(measured(way, {"runs": runs}, deadline_s))
                results.add(row, case=case, way=name)
                found[name].append(row)
    rows = {name: _summary(ways[name], some) for name, some in found.items()}
    return {"case": case, "kind": "measured", "goal": ways["plan"].shape.goal, **rows, **_bars(ways["plan"], found)}


def _round(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a measurement."""
    names = ("latency_ms", "pipeline_ms", "native_ms", "opened_bytes", "outputs_equal_native")
    of_enclave = ("busy_ms", "peak_resident_bytes", "loads", "link_ms")
    enclaves = [{name: one[name] for name in of_enclave} for one in row["enclaves"]]
    return {name: row[name] for name in names} | {"enclaves": enclaves}


def _summary(way: ChainResult, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
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


def _bars(plan: ChainResult, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Whether the plan's times are near what was predicted, and whether equal shares are no faster."""
    made_small = "latency_ms" if plan.shape.goal == "latency" else "pipeline_ms"
    middle = {name: statistics.median(row[made_small] for row in rows) for name, rows in found.items()}
    spread = max((max(row[made_small] for row in rows) / middle[name] - 1) for name, rows in found.items())
    noise = max(NOISE, spread)
    own = _summary(plan, found["plan"])
    pairs = [
        (own["predicted"]["latency_ms"], own["latency_ms"]),
        (own["predicted"]["pipeline_ms"], own["pipeline_ms"]),
        *zip(own["predicted"]["busy_ms"], own["busy_ms"], strict=True),
    ]
    off = [predicted / got - 1 for predicted, got in pairs]
    others = [ms for name, ms in middle.items() if name != "plan"]
    return {
        "total_within_10_percent": abs(off[0 if plan.shape.goal == "latency" else 1]) <= NEAR,
        "times_within_10_percent": sum(abs(one) <= NEAR for one in off),
        "times": len(off),
        "all_within_10_percent": all(abs(one) <= NEAR for one in off),
        "noise": noise,
        "no_slower_than_equal_shares": all(middle["plan"] <= ms * (1 + noise) for ms in others),
    }


def show(row: Mapping[str, Any]) -> None:
    """Print a case."""
    for name in WAYS:
        if name not in row:
            print(f"{row['case']:32} {name:9} cuts where the plan does")
            continue
        one = row[name]
        predicted = one["predicted"]
        off = [found / expected for found, expected in zip(predicted["busy_ms"], one["busy_ms"], strict=True)]
        print(
            f"{row['case']:32} {name:9} {len(off)} enclaves  latency {one['latency_ms']:7.1f} ms "
            f"(predicted {predicted['latency_ms']:7.1f})  between results {one['pipeline_ms']:6.1f} "
            f"({predicted['pipeline_ms']:6.1f})  native {one['native_ms']:6.1f}  enclaves off by "
            f"{min(off) - 1:+.0%} to {max(off) - 1:+.0%}  {one['most_resident_bytes'] / MIB:.1f} MiB at most, "
            f"{one['loads']:.0f} loads, outputs {'equal' if one['outputs_equal_native'] else 'DIFFER'}"
        )
    print(
        f"{row['case']:32} bars: {row['times_within_10_percent']} of {row['times']} times within 10 %: "
        f"{'kept' if row['all_within_10_percent'] else 'MISSED'}; no slower than equal shares beyond "
        f"{row['noise']:.0%}: {'kept' if row['no_slower_than_equal_shares'] else 'MISSED'}",
        flush=True,
    )


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What holds for all cases together."""
    near = sum(row["all_within_10_percent"] for row in rows)
    return {
        "plans_within_10_percent": near,
        "totals_within_10_percent": sum(row["total_within_10_percent"] for row in rows),
        "times_within_10_percent": [sum(row[name] for row in rows) for name in ("times_within_10_percent", "times")],
        "plans": len(rows),
        "predictions_kept": near >= MOST_OF_PLANS * len(rows),
        "never_slower_than_equal_shares": all(row["no_slower_than_equal_shares"] for row in rows),
    }


def main() -> None:
    """Measure the cases."""
    parser = common_options(__doc__, rounds=2, deadline_s=300.0)
    parser.add_argument("--case", action="append", help="NETWORK:EPC:ENCLAVES:GOAL, such as vgg16:93MiB:4:latency")
    options = parser.parse_args()
    results = Results(options.results, options.runs)

    def of(case: str) -> dict[str, Any]:
        return figures(case, options.rounds, options.runs, options.deadline, results)

    each(options.case or CASES, of, show, summary, as_json=options.json)


if __name__ == "__main__":
    main()
