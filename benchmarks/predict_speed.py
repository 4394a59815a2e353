"""How long predicting takes: a cold process, and a warm one in Python.

    python benchmarks/predict_speed.py [MODEL ...] [--repetitions 9] [--json]

Cold: `sectum predict MODEL --epc 93MiB --json`, wall time and peak memory of the process. Warm: from the file to
the prediction, in a process that has predicted before. Medians, the smallest and the largest beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import onnx

from sectum.enclave import profile as profiles
from sectum.graph import read
from sectum.measure.context import machine_context
from sectum.predict import load_predictor
from sectum.units import MIB

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def cold(path: Path) -> tuple[float, float]:
    """Seconds and peak MiB of a process that predicts."""
    command = [sys.executable, "-m", "sectum.cli", "predict", str(path), "--epc", "93MiB", "--json"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return seconds, usage.ru_maxrss / 1024


def warm(path: Path, repetitions: int) -> list[float]:
    """Milliseconds from file to prediction."""
    predictor, enclave = load_predictor(), profiles.load("softepc").with_epc(93 * MIB)
    predictor.predict(read(path).graph, enclave)
    times = []
    for _ in range(repetitions):
        started = time.perf_counter()
        predictor.predict(read(path).graph, enclave)
        times.append((time.perf_counter() - started) * 1e3)
    return times


def main() -> int:
    """Print one line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*", default=[LIGHT / "light_resnet50.onnx"])
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = []
    for path in options.models:
        colds = [cold(path) for _ in range(options.repetitions)]
        warms = warm(path, options.repetitions)
        seconds, mebibytes = [c[0] for c in colds], [c[1] for c in colds]
        result = {
            "model": path.name,
            "cold_s": [min(seconds), statistics.median(seconds), max(seconds)],
            "cold_peak_mib": max(mebibytes),
            "warm_ms": [min(warms), statistics.median(warms), max(warms)],
        }
        results.append(result)
        if not options.json:
            print(
                f"{path.name}: cold {result['cold_s'][1]:.2f} s ({min(seconds):.2f} to {max(seconds):.2f}), at most "
                f"{max(mebibytes):.0f} MiB; warm {result['warm_ms'][1]:.1f} ms ({min(warms):.1f} to {max(warms):.1f})"
            )
    if options.json:
        json.dump({"results": results, "context": machine_context()}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
