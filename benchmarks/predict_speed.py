"""How long predicting takes: a cold process, and a warm one in Python.

    python benchmarks/predict_speed.py [MODEL ...] [--against SRC] [--repetitions 9] [--json]

Cold: `sectum predict MODEL --epc 93MiB`, which gives advice too, and the same with `--json`, which hashes the file as
well; wall time, CPU time and peak memory of the process. Warm: from the file to the prediction, in a process that has
predicted before. Medians, the smallest and the largest beside them.

Without MODEL: ResNet-50 without weights in its file, and VGG-16 with 553 MB of them. With `--against` the `src` folder
of another revision of the package runs too, in turns with this one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import onnx

import sectum
from sectum import zoo
from sectum.measure.context import machine_context

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
HERE = Path(sectum.__file__).parents[1]
FEWEST_WEIGHT_BYTES = 500_000_000

WARM = """
import sys, time
from sectum.enclave import profile as profiles
from sectum.graph import read
from sectum.predict import load_predictor
from sectum.units import MIB

path, repetitions = sys.argv[1], int(sys.argv[2])
predictor, enclave = load_predictor(), profiles.load("softepc").with_epc(93 * MIB)
for _ in range(repetitions + 1):
    started = time.perf_counter()
    predictor.predict(read(path).graph, enclave)
    print(1e3 * (time.perf_counter() - started))
"""


def run(source: Path, *arguments: str) -> tuple[str, float, float, float]:
    """Run Python with the package in a folder; what it prints, and its wall seconds, CPU seconds and peak MiB."""
    command = [sys.executable, *arguments]
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, stdout=printed, env={**os.environ, "PYTHONPATH": str(source)})
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
        printed.seek(0)
        return printed.read(), seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def measure(path: Path, sources: dict[str, Path], repetitions: int) -> list[dict[str, object]]:
    """Take all numbers for one model, the packages in turns."""
    predict = ("-m", "sectum.cli", "predict", str(path), "--epc", "93MiB")
    commands = {"cold": predict, "cold_json": (*predict, "--json")}
    colds: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    warms: dict[str, list[float]] = {}
    for repetition in range(repetitions + 1):
        for name, source in sources.items():
            for kind, command in commands.items():
                numbers = run(source, *command)[1:]
                if repetition:  # the first run compiles the package and brings the file into the page cache
                    colds.setdefault((name, kind), []).append(numbers)
    for name, source in sources.items():
        printed, *_ = run(source, "-c", WARM, str(path), str(repetitions))
        warms[name] = [float(line) for line in printed.split()][1:]
    return [
        {
            "model": path.name,
            "package": name,
            **{f"{kind}_s": spread([c[0] for c in colds[name, kind]]) for kind in commands},
            **{f"{kind}_cpu_s": spread([c[1] for c in colds[name, kind]]) for kind in commands},
            **{f"{kind}_peak_mib": max(c[2] for c in colds[name, kind]) for kind in commands},
            "warm_ms": spread(warms[name]),
        }
        for name in sources
    ]


def spread(numbers: list[float]) -> tuple[float, float, float]:
    """Smallest, median, largest."""
    return min(numbers), statistics.median(numbers), max(numbers)


def with_weights(folder: Path) -> Path:
    """VGG-16 as a file that holds its weights."""
    path = folder / "vgg16.onnx"
    zoo.write(zoo.network("vgg16"), path, batch=1)
    if path.stat().st_size < FEWEST_WEIGHT_BYTES:
        raise SystemExit(f"{path} has {path.stat().st_size} bytes: its weights are not in it")
    return path


def show(row: dict[str, object]) -> None:
    """Print one row in three lines."""
    print(f"{row['model']}, {row['package']}")
    for kind, what in (("cold", "with advice"), ("cold_json", "with advice and digest")):
        wall, cpu, peak = row[f"{kind}_s"], row[f"{kind}_cpu_s"], row[f"{kind}_peak_mib"]
        print(f"  cold {wall[1]:.2f} s ({wall[0]:.2f} to {wall[2]:.2f}), CPU {cpu[1]:.2f} s, {peak:.0f} MiB  {what}")
    warm = row["warm_ms"]
    print(f"  warm {warm[1]:.1f} ms ({warm[0]:.1f} to {warm[2]:.1f})")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*", metavar="MODEL")
    parser.add_argument("--against", type=Path, metavar="SRC", help="'src' of another revision, to run in turns with")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sources = {"this": HERE} | ({"other": options.against.resolve()} if options.against else {})
    with tempfile.TemporaryDirectory() as folder:
        models = options.models or [LIGHT / "light_resnet50.onnx", with_weights(Path(folder))]
        rows = [row for path in models for row in measure(path, sources, options.repetitions)]
    if options.json:
        json.dump({"results": rows, "context": machine_context()}, sys.stdout)
    else:
        for row in rows:
            show(row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
