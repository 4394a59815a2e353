"""How long a search takes: trials with a training-free objective, from the command line's options to the front.

    python benchmarks/search_trials.py [--trials 2000] [--workers 2] [--spaces mobilenet_v3 resnet] [--plans] [--json]

Each search stores its trials in a new database. CPU time is that of all its processes, so it says what the search costs
also where other programs run.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sectum.measure.context import machine_context

CASES = {"mobilenet_v2": "16MiB", "mobilenet_v3": "16MiB", "resnet": "93MiB", "vgg": "64MiB", "tiny": "2MiB"}
"""EPC in which about half of each space pages."""


def cpu_seconds() -> float:
    """CPU time of all processes that have ended and were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def timed(space: str, objective: str, trials: int, workers: int, *, plans: bool) -> dict[str, object]:
    """One search in a process of its own, with its database."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "sectum.cli", "search", "--latency", "10s", "--epc", CASES[space], "--space", space,
            "--objective", objective, "--trials", str(trials), "--workers", str(workers), "--json",
            "--storage", f"sqlite:///{Path(folder) / 'study.db'}", *["--plans"] * plans,
        ]  # fmt: skip
        before, started = cpu_seconds(), time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        wall = time.perf_counter() - started
    found = json.loads(done.stdout)
    return {
        "space": space,
        "objective": objective,
        "trials": found["trials"],
        "workers": workers,
        "plans": plans,
        "front": len(found["front"]),
        "seconds": wall,
        "cpu_seconds": cpu_seconds() - before,
    }


def main() -> int:
    """Print one line for each search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--spaces", nargs="+", choices=sorted(CASES), default=["mobilenet_v3", "resnet"])
    parser.add_argument("--objective", default="synflow")
    parser.add_argument("--plans", action="store_true", help="networks that page run by their best plans")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = []
    for space in options.spaces:
        row = timed(space, options.objective, options.trials, options.workers, plans=options.plans)
        results.append(row)
        if not options.json:
            print(
                f"{space}, {options.objective}: {row['trials']} trials in {row['seconds']:.1f} s with "
                f"{options.workers} workers, {row['cpu_seconds']:.1f} s of CPU time; the front has {row['front']}",
                flush=True,
            )
    if options.json:
        json.dump({"results": results, "context": machine_context()}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
