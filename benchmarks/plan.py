"""What a plan gains: plan, native and plain paging, measured in turn in one run, each case against its bar.

    python benchmarks/plan.py [--case vgg16:93MiB:1 ...] [--rounds 3] [--runs 5] [--results FILE] [--json]

On an idle machine of two cores a case takes half a minute to three minutes, and all of them about 15 minutes. With
--results, each round is added to the file when it ends, and rounds that are there are not measured again: a run that
was stopped goes on. Let nothing else run meanwhile. Run 'sectum calibrate' first, so that predictions are in this
machine's milliseconds.

A case is a network of the zoo or a file, an EPC ("half" is half of the working set), and a number of threads. A round
starts each way once: the network outside an enclave, the plan in the software enclave and, in the first round, the
network there without a plan. A latency is a ratio to the reference kernels around it, so a slower moment of the machine
cancels; the figure is the median of the rounds.

The bar is the most that the plan may take over the network outside an enclave with one thread, also where the plan has
two: the second is there to open ahead. Beside it stands what it takes over the network outside with all threads. Of a
network that fits, the bar is over the network in the same enclave without a plan, which is then measured in each round.
Each line also has the prediction, the weights that were opened, the pages that were loaded, the most memory that was
resident, and whether the outputs were those of the native run, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sectum.cli.plan.planning import PlanResult, make_plan, measure_native, measure_plan
from sectum.cli.predict.source import Source
from sectum.errors import SectumError
from sectum.measure.measurement import Measurement
from sectum.predict import load_predictor
from sectum.units import PAGE_BYTES, format_bytes, parse_bytes

BARS = {
    "vgg16:93MiB:1": 1.35, "resnet152:93MiB:1": 1.35, "alexnet:93MiB:1": 3.0, "resnet50:32MiB:1": 1.35,
    "mobilenet_v2:12MiB:1": 1.4, "densenet121:half:1": 1.5, "vgg16:93MiB:2": 1.15, "alexnet:93MiB:2": 2.0,
}  # fmt: skip
FITTING_BAR = 1.02
CASES = (*BARS, "squeezenet1_1:93MiB:1", "mobilenet_v2:93MiB:1", "resnet18:93MiB:1")


def planned(case: str) -> PlanResult:
    """The best plan of a case."""
    model, epc, threads = case.rsplit(":", 2)
    name = model if model.endswith(".onnx") else f"zoo:{model}"
    if epc == "half":
        prepared = load_predictor().prepare(Source(name).graph, threads=int(threads))
        epc_bytes = prepared.trace.pages // 2 * PAGE_BYTES
    else:
        epc_bytes = parse_bytes(epc)
    return make_plan(name, enclave="softepc", epc_bytes=epc_bytes, batch=None, inputs={}, threads=int(threads))


def a_round(result: PlanResult, conditions: Mapping[str, Any], *, unplanned: bool) -> dict[str, Any]:
    """Each way once."""
    one_thread = replace(result, plan=replace(result.plan, threads=1))
    ways = {"native": measure_native(one_thread, conditions), "planned": measure_plan(result, conditions)}
    if result.plan.threads > 1:
        ways["native_all_threads"] = measure_native(result, conditions)
    if unplanned:
        ways["unplanned"] = measure_plan(result, conditions, planned=False)
    return {name: kept(one) for name, one in ways.items()}


def kept(one: Measurement) -> dict[str, Any]:
    """What is kept of a measurement."""
    return {
        "latency_ms": one.latency_ms,
        "uncertainty": one.uncertainty,
        "loads": one.loads,
        "peak_resident_bytes": one.peak_resident_bytes,
        "outputs_equal_native": one.outputs_equal_native,
    }


def measured(case: str, rounds: int, conditions: Mapping[str, Any], results: Results) -> dict[str, Any]:
    """All figures of a case."""
    result = planned(case)
    plan, epc_bytes = result.planned, result.plan.epc_bytes
    rows = results.of(case=case)[:rounds]
    for number in range(len(rows), rounds):
        row = a_round(result, conditions, unplanned=plan.as_it_is or not number)
        results.add(row, case=case)
        rows.append(row)
    latency_ms = {
        name: statistics.median(row[name]["latency_ms"] for row in rows if name in row)
        for name in dict.fromkeys(name for row in rows for name in row)
    }
    over = {name: latency_ms["planned"] / ms for name, ms in latency_ms.items() if name != "planned"}
    fits = plan.as_it_is
    bar = FITTING_BAR if fits else BARS.get(case)
    reached = over["unplanned"] if fits else over["native"]
    resident = max(row["planned"]["peak_resident_bytes"] for row in rows)
    return {
        "case": case,
        "kind": "measured",
        "rounds": len(rows),
        "fits": fits,
        "latency_ms": latency_ms,
        "over": over,
        "bar": bar,
        "reached": reached,
        "within_bar": None if bar is None else reached <= bar,
        "predicted_ms": {
            "native": plan.native_ms, "planned": plan.latency_ms, "unplanned": plan.unplanned_ms,
            "calibrated": result.calibrated,
        },
        "predicted_off": plan.latency_ms / latency_ms["planned"] - 1,
        "stages": len(plan.stages),
        "buffers": plan.buffers,
        "opened_bytes": plan.opened_bytes,
        "epc_bytes": epc_bytes,
        "predicted_resident_bytes": plan.layout.working_set_bytes,
        "peak_resident_bytes": resident,
        "within_epc": resident <= epc_bytes,
        "loads": rows[-1]["planned"]["loads"],
        "outputs_equal_native": all(row["planned"]["outputs_equal_native"] for row in rows),
    }  # fmt: skip


class Results:
    """Rounds that were measured, in a file with a JSON object in each line, or in none.

    Args:
        path: of the file.
        runs: inferences in each process: rounds with others are left out.
    """

    def __init__(self, path: Path | None, runs: int) -> None:
        self._path, self._runs = path, runs
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self._rows = [json.loads(line) for line in lines]

    def of(self, **key: str) -> list[dict[str, Any]]:
        """Rounds of a case, or of one way to run it."""
        wanted = {**key, "runs": self._runs}
        return [row["round"] for row in self._rows if {name: row.get(name) for name in wanted} == wanted]

    def add(self, row: Mapping[str, Any], **key: str) -> None:
        """Keep a round."""
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps({**key, "runs": self._runs, "round": row}) + "\n")


def each(
    cases: Iterable[Any],
    figures: Callable[[Any], dict[str, Any]],
    show: Callable[[Mapping[str, Any]], None],
    summary: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]],
    *,
    as_json: bool,
) -> None:
    """Measure each case, and print it and the summary."""
    rows = []
    for case in cases:
        try:
            rows.append(figures(case))
        except SectumError as error:  # the other cases are measured all the same
            print(f"{case}: not measured: {error}", file=sys.stderr, flush=True)
            continue
        if not as_json:
            show(rows[-1])
    if as_json:
        json.dump({"cases": rows, "summary": summary(rows)}, sys.stdout, indent=2)
    else:
        print(json.dumps(summary(rows)))


def common_options(doc: str, *, rounds: int, deadline_s: float) -> argparse.ArgumentParser:
    """A parser with the options of all benchmarks that keep rounds."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--runs", type=int, default=5, help="inferences in each process")
    parser.add_argument("--deadline", type=float, default=deadline_s, help="seconds for each measurement")
    parser.add_argument("--results", type=Path, help="keep rounds in this file, and go on where it ends")
    parser.add_argument("--json", action="store_true")
    return parser


def show(row: Mapping[str, Any]) -> None:
    """Print a case."""
    times, predicted, over = row["latency_ms"], row["predicted_ms"], row["over"]
    all_threads = ""
    if "native_all_threads" in over:
        all_threads = f", {over['native_all_threads']:.2f} x with all threads"
    against = "no plan" if row["fits"] else "native"
    bar = "" if row["bar"] is None else f", bar {row['bar']:.2f}: {'kept' if row['within_bar'] else 'MISSED'}"
    print(
        f"{row['case']:22} {row['reached']:.2f} x {against}{all_threads}{bar}  native {times['native']:.1f}, "
        f"plan {times['planned']:.1f} (predicted {predicted['planned']:.1f}, {row['predicted_off']:+.0%}), "
        f"no plan {times['unplanned']:.1f} ms (predicted {predicted['unplanned']:.1f})  {row['stages']} stages, "
        f"{format_bytes(row['opened_bytes'])} opened, {row['loads']:.0f} loads, "
        f"{format_bytes(row['peak_resident_bytes'])} of {format_bytes(row['epc_bytes'])} resident at most, "
        f"outputs {'equal' if row['outputs_equal_native'] else 'DIFFER'}",
        flush=True,
    )


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What holds for all cases together."""
    return {
        "bars_kept": sum(bool(row["within_bar"]) for row in rows),
        "bars": sum(row["bar"] is not None for row in rows),
        "predicted_within_10_percent": sum(abs(row["predicted_off"]) <= 0.1 for row in rows),
        "never_slower_than_no_plan": all(row["over"]["unplanned"] <= FITTING_BAR for row in rows),
        "never_above_the_epc": all(row["within_epc"] for row in rows),
        "outputs_equal_native": all(row["outputs_equal_native"] for row in rows),
        "cases": len(rows),
    }


def main() -> None:
    """Measure the cases."""
    parser = common_options(__doc__, rounds=3, deadline_s=240.0)
    parser.add_argument("--case", action="append", help="NETWORK:EPC:THREADS, such as vgg16:93MiB:1")
    options = parser.parse_args()
    conditions = {"runs": options.runs, "deadline_s": options.deadline}
    results = Results(options.results, options.runs)

    def figures(case: str) -> dict[str, Any]:
        return measured(case, options.rounds, conditions, results)

    each(options.case or CASES, figures, show, summary, as_json=options.json)


if __name__ == "__main__":
    main()
