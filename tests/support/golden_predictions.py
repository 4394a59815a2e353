"""The recorded predictions, and how they are recorded: ``python tests/support/golden_predictions.py``."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from places import LIGHT, ROOT
from sectum import zoo
from sectum.enclave import profile
from sectum.graph import Graph, read
from sectum.ort import Cpu
from sectum.predict import OperatorModel, Predictor, shipped_for
from sectum.units import MIB

FILE = ROOT / "tests" / "vectors" / "predictions" / "predictions.json.gz"
NETWORKS = [f"zoo:{name}" for name in zoo.names()] + [f"onnx:{path.stem}" for path in sorted(LIGHT.glob("*.onnx"))]
CPUS, THREADS, EPCS_MIB = (Cpu.AVX2, Cpu.AVX512), (1, 2), (24, 93, 1024)

_OF_LAYERS = (
    "type",
    "output_shape",
    "native_ms",
    "weight_bytes",
    "activation_bytes",
    "live_bytes",
    "flops",
    "supported",
)
_NOT_NUMBERS = ("grade", "layers", "model", "notes", "runtime", "cpu")


def load() -> dict[str, dict[str, Any]]:
    """What was recorded: by network, then by CPU and threads."""
    recorded: dict[str, dict[str, Any]] = json.loads(gzip.decompress(FILE.read_bytes()))
    return recorded


def predictions(network: str) -> dict[str, Any]:
    """Predict a network in the form that is recorded."""
    graph = _graph(network)
    return {f"{cpu.nchwc_block}|{threads}": _predict(graph, cpu, threads) for cpu in CPUS for threads in THREADS}


def _graph(network: str) -> Graph:
    where, _, name = network.partition(":")
    if where == "zoo":
        return zoo.to_graph(zoo.network(name), 1)
    return read(LIGHT / f"{name}.onnx", batch=1).graph


@cache
def _operators(cpu: Cpu) -> OperatorModel:
    return OperatorModel.load(shipped_for(cpu))


def _predict(graph: Graph, cpu: Cpu, threads: int) -> dict[str, Any]:
    predictor = Predictor(_operators(cpu))
    prepared = predictor.prepare(graph, threads=threads)
    enclave = profile.load("softepc")
    made = [predictor.in_enclave(prepared, enclave.with_epc(mib * MIB)).to_json() for mib in EPCS_MIB]
    return {
        "layers": {name: [layer[name] for layer in made[0]["layers"]] for name in _OF_LAYERS},
        "predictions": list(_numbers(made)),
    }


def _numbers(made: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for one in made:
        layers = one["layers"]
        by_cause = {cause: [layer["breakdown_ms"][cause] for layer in layers] for cause in one["breakdown_ms"]}
        kept = {name: value for name, value in one.items() if name not in _NOT_NUMBERS}
        yield {**kept, "layers": {**by_cause, "loads": [layer["loads"] for layer in layers]}}


def _record(file: Path) -> None:
    text = json.dumps({name: predictions(name) for name in NETWORKS}, separators=(",", ":"), sort_keys=True)
    file.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    _record(FILE)
