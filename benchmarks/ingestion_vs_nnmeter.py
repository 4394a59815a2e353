"""How long it takes to read a model: Sectum beside nn-Meter, on the same file, in turns.

Sectum's side is ``read`` (parsing, checking, static shapes), the cost of every operator, and the graph that
the runtime executes. nn-Meter's side is its own ONNX ingestion (``model_file_to_graph``) and kernel detection
(``KernelDetector``) with fusion rules for convolution, normalisation and activation. Both start from the
file.

nn-Meter 2.0 needs older libraries than Sectum and lives in an environment of its own::

    python3.11 -m venv /tmp/nnmeter
    /tmp/nnmeter/bin/pip install nn-meter==2.0 onnx==1.16.2 "numpy<2" "networkx<3" "protobuf<5" "setuptools<80"
    python benchmarks/ingestion_vs_nnmeter.py --nnmeter-python /tmp/nnmeter/bin/python --json out.json

(onnx 1.9 and 1.10, which nn-Meter names as tested, have no wheels for Python 3.11.)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

NNMETER_SIDE = """
import json, logging, sys, time, warnings
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
from importlib.metadata import version
from nn_meter.ir_converter.utils import model_file_to_graph
from nn_meter.kernel_detector import KernelDetector
print(json.dumps({p: version(p) for p in ("nn-meter", "onnx", "numpy", "networkx", "protobuf")}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    start = time.perf_counter()
    graph = model_file_to_graph(request["path"], "onnx")
    read = time.perf_counter()
    detector = KernelDetector(request["rules"])
    detector.load_graph(graph)
    kernels = detector.get_kernels()
    end = time.perf_counter()
    print(json.dumps({"answer": True, "read_ms": (read - start) * 1e3, "kernels_ms": (end - read) * 1e3,
                      "kernels": len(kernels), "nodes": len(graph)}), flush=True)
"""
RULES = {
    **{f"BF_{pair}": {"obey": True} for pair in ("conv_bn", "conv_relu", "bn_relu", "add_relu")},
    "MON": {"obey": 0},
    "FN": {"obey": True},
}


class NnMeter:
    """nn-Meter in its own interpreter; it makes a folder in the home directory, so it gets another home."""

    def __init__(self, python: str, folder: Path) -> None:
        self._rules = folder / "rules.json"
        self._rules.write_text(json.dumps(RULES))
        self._child = subprocess.Popen(
            [python, "-c", NNMETER_SIDE], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env={**os.environ, "HOME": str(folder), "PYTHONPATH": ""},
        )  # fmt: skip
        self.versions = self._answer()

    def ingest(self, path: Path) -> dict[str, float]:
        """One ingestion by nn-Meter, timed in its process."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps({"path": str(path), "rules": str(self._rules)}) + "\n")
        self._child.stdin.flush()
        return self._answer()

    def _answer(self) -> dict:
        assert self._child.stdout is not None
        while line := self._child.stdout.readline():
            if line.startswith("{"):  # nn-Meter prints remarks about versions in between
                return json.loads(line)
        raise SystemExit("nn-Meter's process ended: run its interpreter by hand to see why")

    def close(self) -> None:
        """End the process."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(timeout=30)


def ours(path: Path) -> dict[str, float]:
    """One ingestion by Sectum."""
    from sectum.graph import read
    from sectum.ort import cost
    from sectum.ort.cpu import Cpu
    from sectum.ort.optimize import optimize

    start = time.perf_counter()
    graph = read(path).graph
    shaped = time.perf_counter()
    costs = [cost(op, graph) for op in graph.operators]
    executed = optimize(graph, Cpu.AVX2)
    end = time.perf_counter()
    return {
        "read_ms": (shaped - start) * 1e3,
        "costs_and_kernels_ms": (end - shaped) * 1e3,
        "kernels": len(executed.operators),
        "nodes": len(costs),
    }


def compare(path: Path, nnmeter: NnMeter, rounds: int) -> dict[str, object]:
    """Raw times of both sides, taken in turns, and the ratio of their medians."""
    ours(path)
    nnmeter.ingest(path)  # one round of each to warm up
    sectum_runs, nnmeter_runs = [], []
    for _ in range(rounds):
        sectum_runs.append(ours(path))
        nnmeter_runs.append(nnmeter.ingest(path))
    sectum_ms = statistics.median(r["read_ms"] + r["costs_and_kernels_ms"] for r in sectum_runs)
    nnmeter_ms = statistics.median(r["read_ms"] + r["kernels_ms"] for r in nnmeter_runs)
    return {
        "model": path.name,
        "file_bytes": path.stat().st_size,
        "sectum_median_ms": sectum_ms,
        "nnmeter_median_ms": nnmeter_ms,
        "nnmeter_over_sectum": nnmeter_ms / sectum_ms,
        "sectum_runs": sectum_runs,
        "nnmeter_runs": nnmeter_runs,
    }


def main() -> None:
    """Compare on the files asked for and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nnmeter-python", required=True, help="interpreter of the environment with nn-Meter")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--model", type=Path, action="append", help="ONNX file; default: two networks of the zoo")
    parser.add_argument("--json", type=Path, help="write the result here as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = arguments.model or from_zoo(folder)
        nnmeter = NnMeter(arguments.nnmeter_python, folder)
        try:
            rows = [compare(path, nnmeter, arguments.rounds) for path in models]
        finally:
            nnmeter.close()
    result = {"what": "model ingestion, measured, interleaved", "context": context(nnmeter.versions), "rows": rows}
    for row in rows:
        print(
            f"{row['model']:24} Sectum {row['sectum_median_ms']:8.1f} ms   nn-Meter "
            f"{row['nnmeter_median_ms']:8.1f} ms   ratio {row['nnmeter_over_sectum']:.1f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def from_zoo(folder: Path) -> list[Path]:
    """ResNet-50 and MobileNetV2 with their weights inside."""
    from sectum import zoo

    paths = []
    for name in ("resnet50", "mobilenet_v2"):
        path = folder / f"{name}.onnx"
        path.write_bytes(zoo.to_bytes(zoo.network(name), batch=1))
        paths.append(path)
    return paths


def context(nnmeter_versions: dict[str, str]) -> dict[str, object]:
    """Machine, versions and date."""
    from importlib.metadata import version

    import sectum

    cpu = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
           if line.startswith("model name")]  # fmt: skip
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu[0] if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "sectum": sectum.__version__,
        "numpy": version("numpy"),
        "nnmeter_side": nnmeter_versions,
        "load_average": os.getloadavg(),
    }


if __name__ == "__main__":
    main()
