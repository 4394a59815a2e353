"""How long the allocator of the service takes for one decision, and how that grows with the number of accelerators.

    python benchmarks/allocator.py [--accelerators 100 1000 10000] [--per-waiting 5] [--repeats 5] [--json]

One request waits for every five accelerators. There are three situations. `grant`: everything is free, and every
request is served. `turns`: everything is owned by enclaves whose turns are over, and every request asks one of them to
give back. `preempt`: half of it is owned by jobs, which every request outranks. `quiet` is a decision when nothing has
happened since the last one. Times are the best of the repeats, in ms of processor time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from math import log

from sectum.hetee.controller.allocation import Insecure, Request, Secure, Terms
from sectum.hetee.controller.allocator import Allocator
from sectum.measure.context import machine_context

SITUATIONS = ("grant", "turns", "preempt")


def prepared(situation: str, accelerators: int, waiting: int) -> Allocator:
    """An allocator in a situation, just before the decision at second 10 that is timed."""
    allocator = Allocator({"cuda": accelerators}, Terms())
    if situation != "grant":
        for number in range(1, accelerators + 1):
            insecure = situation == "preempt" and number % 2
            holder = Insecure(number) if insecure else Secure(number)
            allocator.ask(Request(number, "cuda", 1, number.to_bytes(4), 0, holder))
        allocator.decide(0.0)
    for number in range(accelerators + 1, accelerators + waiting + 1):
        allocator.clean(number)
        allocator.ask(Request(number, "cuda", 1, number.to_bytes(4), 1))
    return allocator


def timed(situation: str, accelerators: int, waiting: int, repeats: int) -> dict[str, float]:
    """Milliseconds of one decision, and what was decided."""
    best_ms = quiet_ms = float("inf")
    decisions = 0
    for _ in range(repeats):
        allocator = prepared(situation, accelerators, waiting)
        started = time.process_time()
        decisions = len(allocator.decide(10.0))
        decided = time.process_time()
        allocator.decide(10.0)
        best_ms = min(best_ms, 1e3 * (decided - started))
        quiet_ms = min(quiet_ms, 1e3 * (time.process_time() - decided))
    return {
        "accelerators": accelerators,
        "waiting": waiting,
        "decisions": decisions,
        "ms": best_ms,
        "quiet_ms": quiet_ms,
        "ns_per_n_log_n": 1e6 * best_ms / ((accelerators + waiting) * log(accelerators + waiting)),
    }


def main() -> int:
    """Print one line for each situation and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accelerators", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--per-waiting", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = []
    for situation in SITUATIONS:
        for accelerators in options.accelerators:
            row = timed(situation, accelerators, accelerators // options.per_waiting, options.repeats)
            results.append({"situation": situation, **row})
            if not options.json:
                print(
                    f"{situation}: {accelerators:,} accelerators, {row['waiting']:,} waiting: "
                    f"{row['decisions']:,} decisions in {row['ms']:.2f} ms "
                    f"({row['ns_per_n_log_n']:.0f} ns for each n log n), quiet {row['quiet_ms']:.4f} ms",
                    flush=True,
                )
    if options.json:
        json.dump({"results": results, "context": machine_context()}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
