"""Measure the cost of a page fault of the software EPC, and compare it with the sum of its parts.

Starts native/softepc/bench.c under libsoftepc, which measures faults (each with one eviction and one
load) and their parts alternately, and reports medians over the repetitions. `ratio` is the median fault
over the median sum of the parts; the pager itself may add at most half. Times are processor time of
the one thread, which equals wall time on an idle machine; fault_in_handler alone is wall time.

    python benchmarks/pager_fault.py [--repetitions 21] [--policy second-chance|fifo] [--json PATH]

Exit code: 0, or 1 if the ratio exceeds --limit (1.5), or 2 if the benchmark did not run.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "native" / "softepc"
BUDGET_BYTES = 8 << 20  # half of what the benchmark sweeps over
PARTS = ("signal", "seal", "open", "unmap", "punch", "copy", "view")


def processor() -> str:
    """Name of the processor, from the kernel."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def commit() -> str:
    """The commit of the working tree, marked if the pager's sources differ from it."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", str(SOURCE)], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+changes" if changed else "")


def measure(repetitions: int, policy: str) -> dict[str, list[float]]:
    """Raw samples in nanoseconds, by quantity; one value for each repetition."""
    subprocess.run(["make", "-s", "-C", str(SOURCE), "bench"], check=True)
    environment = {
        **os.environ,
        "LD_PRELOAD": str(SOURCE / "build" / "libsoftepc.so"),
        "SOFTEPC_BUDGET_BYTES": str(BUDGET_BYTES),
        "SOFTEPC_POLICY": policy,
    }
    output = subprocess.run(
        [str(SOURCE / "build" / "bench"), str(repetitions)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    samples = {}
    for line in output.splitlines():
        name, *values = line.split()
        samples[name] = [float(value) for value in values]
    return samples


def report(samples: dict[str, list[float]], policy: str) -> dict[str, object]:
    """Give medians, the ratio, and the context of the measurement."""
    sums = [sum(values) for values in zip(*(samples[f"{part}_ns"] for part in PARTS), strict=True)]
    fault_ns = statistics.median(samples["fault_ns"])
    parts_ns = statistics.median(sums)
    return {
        "clock": "processor time of the thread; fault_in_handler: wall time",
        "what": "one fault of the software EPC with one eviction and one load",
        "policy": policy,
        "fault_ns": fault_ns,
        "parts_ns": parts_ns,
        "ratio": fault_ns / parts_ns,
        "medians_ns": {name: statistics.median(values) for name, values in samples.items()},
        "hot_ratio": statistics.median(
            inside / outside
            for inside, outside in zip(samples["hot_inside_ns"], samples["hot_outside_ns"], strict=True)
        ),
        "samples_ns": samples,
        "context": {
            "measured": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": processor(),
            "cores": os.cpu_count(),
            "kernel": platform.release(),
            "load_average": os.getloadavg(),
            "commit": commit(),
            "library_sha256": hashlib.sha256((SOURCE / "build" / "libsoftepc.so").read_bytes()).hexdigest(),
            "budget_bytes": BUDGET_BYTES,
        },
    }


def main() -> int:
    """Measure, print, and compare with the limit."""
    parser = argparse.ArgumentParser(description="Measure the cost of a fault of the software EPC, and of its parts.")
    parser.add_argument("--repetitions", type=int, default=21, help="interleaved repetitions (1 to 101)")
    parser.add_argument("--policy", choices=["second-chance", "fifo"], default="second-chance")
    parser.add_argument("--limit", type=float, default=1.5, help="the largest ratio that passes")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all results to this file ('-' for stdout)")
    arguments = parser.parse_args()
    try:
        result = report(measure(arguments.repetitions, arguments.policy), arguments.policy)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"the benchmark did not run: {error}", file=sys.stderr)
        return 2
    if arguments.json and str(arguments.json) == "-":
        print(json.dumps(result))
    else:
        if arguments.json:
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")
        for name, value in result["medians_ns"].items():
            print(f"{name:20} {value:12.0f}")
        print(f"fault / parts        {result['ratio']:12.2f}   (limit {arguments.limit})")
        print(f"hot loop in / out    {result['hot_ratio']:12.2f}")
    return 0 if result["ratio"] <= arguments.limit else 1


if __name__ == "__main__":
    sys.exit(main())
