"""Does a second measurement say the same? Two passes over a set of models, the second disturbed.

    python benchmarks/repeatability.py [--models 34] [--wait-s 600] [--seconds 8] [--json]

Each model is measured once in every pass, natively and, every third one, in a software EPC of half its size. Between
the passes it waits; in the second pass another process keeps switching between computing and copying memory for a
second and sleeping for a second. Printed: how many models agree within 5 and 10 %, by the ratio to the reference
kernel and, for comparison, by plain wall time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import sys
import time

import numpy as np

from sectum import zoo
from sectum.enclave.runners.native import NativeRunner
from sectum.enclave.runners.softepc import SoftEpcRunner
from sectum.graph import Model, read
from sectum.measure.context import machine_context
from sectum.measure.measurement import Measurement, measure
from sectum.measure.reference import References
from sectum.units import MIB

REFERENCES = References(1.0, 1.0)  # any constants: the passes are compared in units of the reference kernels


def chosen_models(count: int, seed: int) -> list[tuple[str, Model, int | None]]:
    """Random members of all families in turn, each with the EPC it is measured under (None: natively)."""
    rng = random.Random(seed)
    models = []
    for index in range(count):
        family = zoo.families()[index % len(zoo.families())]
        model = read(zoo.to_bytes(zoo.sample(family, rng), batch=1))
        half = max(MIB, model.graph.weight_bytes // 2)
        models.append((f"{family}-{index}", model, half if index % 3 == 2 else None))
    return models


def disturb() -> None:
    """Compute, copy, sleep; for ever."""
    square, big = np.ones((256, 256), np.float32), np.ones(1 << 24, np.uint8)
    while True:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            square @ square
            big.copy()
        time.sleep(1.0)


def one_pass(models: list[tuple[str, Model, int | None]], seconds: float) -> list[tuple[float, float]]:
    """For each model its latency in reference units, and in plain milliseconds."""
    results = []
    for name, model, epc_bytes in models:
        runner = NativeRunner() if epc_bytes is None else SoftEpcRunner()
        measured: Measurement = measure(
            model,
            runner,
            epc_bytes=epc_bytes,
            deadline_s=seconds,
            references=REFERENCES,
            compare_native=False,
        )
        wall = statistics.median(sample["latency_ms"] for sample in measured.samples)
        results.append((measured.latency_ms, wall))
        print(f"{name:24} {measured.latency_ms:10.2f} {wall:10.2f} ms {measured.stopped_because}", file=sys.stderr)
    return results


def agreement(first: list[float], second: list[float]) -> dict[str, float]:
    """Shares of models whose two values agree."""
    errors = [abs(b / a - 1) for a, b in zip(first, second, strict=True)]
    return {
        "within_5": sum(e <= 0.05 for e in errors) / len(errors),
        "within_10": sum(e <= 0.10 for e in errors) / len(errors),
        "median_difference": statistics.median(errors),
        "largest_difference": max(errors),
    }


def main() -> int:
    """Two passes and their agreement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=34)
    parser.add_argument("--wait-s", type=float, default=600.0)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    models = chosen_models(options.models, options.seed)
    first = one_pass(models, options.seconds)
    time.sleep(options.wait_s)
    other = multiprocessing.get_context("spawn").Process(target=disturb, daemon=True)
    other.start()
    try:
        second = one_pass(models, options.seconds)
    finally:
        other.kill()
    result = {
        "models": len(models),
        "ratio_to_reference": agreement([r for r, _ in first], [r for r, _ in second]),
        "wall_time": agreement([w for _, w in first], [w for _, w in second]),
        "kind": "measured",
        "context": machine_context(),
    }
    if options.json:
        json.dump(result, sys.stdout)
    else:
        for label in ("ratio_to_reference", "wall_time"):
            print(label, {key: round(value, 3) for key, value in result[label].items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
