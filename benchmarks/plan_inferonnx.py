"""Plans against the partitions that InferONNX publishes, in the same software enclave, measured in turn in one run.

    git clone https://github.com/Konstantina155/InferONNX && git -C InferONNX lfs pull
    python benchmarks/plan_inferonnx.py InferONNX [--case resnet152-v2-7:93MiB ...] [--rounds 3] [--runs 5] [--json]

A case is one of their models, and an EPC. Their runner takes one sub-model after the other from sealed storage: it
decrypts the file (AES-256-GCM), has the runtime load it, runs it, and frees it; in every inference. The same is done
here, with ONNX Runtime as the runtime of both sides, and one thread. Their runner's own runtime, tract, is another one.
Theirs is favoured: a file is decrypted from where it lies outside without a copy, and what no later sub-model reads is
freed at once. Bytes moved are those that were decrypted, and 4 KiB for each page that was loaded or evicted.

Their files are in Git LFS. Where a checkout has the pointers only, the sub-models are rebuilt from the sizes that the
pointers state: the network of the zoo with the same architecture is cut where its weights come nearest to these shares.
A sub-model of less than 4 KiB has one operator without weights. Each line says which it was. Nothing of theirs is
stored.

On an idle machine a case takes about a minute and all of them seven. Let nothing else run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sectum.cli.plan.planning import PlanResult, make_plan, measure_native, measure_plan
from sectum.enclave.runners import child
from sectum.enclave.runners.launch import child_environment, program
from sectum.enclave.runners.process import ChildSession
from sectum.enclave.runners.runner import Job
from sectum.enclave.runners.softepc import SoftEpcRunner
from sectum.enclave.streaming.tampering import WeightsTamperedError
from sectum.enclave.streaming.written_graph import names_read
from sectum.errors import SectumError
from sectum.measure.latency import measure
from sectum.measure.measurement import Measurement
from sectum.predict.calibration import stored_references
from sectum.units import PAGE_BYTES, format_bytes, parse_bytes

ZOO = {
    "squeezenet1.0-7": "squeezenet1_0", "mobilenetv2-7": "mobilenet_v2", "densenet-7": "densenet121",
    "inception-v3-12": "inception_v3", "resnet101-v2-7": "resnet101", "resnet152-v2-7": "resnet152",
}  # fmt: skip
"""Networks of the zoo with the architecture of their models."""
CASES = (
    "resnet152-v2-7:93MiB", "resnet101-v2-7:93MiB", "inception-v3-12:93MiB", "inception-v3-12:48MiB",
    "densenet-7:24MiB", "mobilenetv2-7:12MiB", "squeezenet1.0-7:8MiB",
)  # fmt: skip
_POINTER = b"version https://git-lfs.github.com/spec/v1"
_WITHOUT_WEIGHTS_BYTES = 4096
_LOOKED_AT = 3


# The sub-models.


@dataclass(frozen=True)
class Partition:
    """The sub-models of one of their models, in order, where they are from, and the bytes that their files have."""

    model: str
    parts: Sequence[bytes]
    origin: str
    published_bytes: Sequence[int]


def partition_of(checkout: Path, name: str, work: Path) -> Partition:
    """The sub-models of a model; `work` is a folder for a file that is made."""
    folder = checkout / "models" / name
    files = sorted((folder / "partitions").glob("*.onnx"), key=lambda path: int(re.findall(r"\d+", path.stem)[-1]))
    if not files:
        raise SystemExit(f"{folder / 'partitions'} has no sub-models: give a checkout of InferONNX's repository")
    contents = [path.read_bytes() for path in files]
    sizes = [pointed_bytes(content) for content in contents]
    whole = folder / f"{name}.onnx"
    if all(size is None for size in sizes) and pointed_bytes(whole.read_bytes()) is None:
        return Partition(str(whole), contents, "the repository's files", list(map(len, contents)))
    published = [size or len(content) for content, size in zip(contents, sizes, strict=True)]
    if name not in ZOO:
        raise SystemExit(f"the files of {name} are in Git LFS, and the zoo has no such network: run 'git lfs pull'")
    from sectum import zoo

    path = work / f"{ZOO[name]}.onnx"
    path.write_bytes(zoo.to_bytes(zoo.network(ZOO[name]), batch=1))
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    return Partition(str(path), rebuilt(model, published), "rebuilt from the published sizes", published)


def pointed_bytes(content: bytes) -> int | None:
    """The size that a pointer of Git LFS states; None for other contents."""
    if not content.startswith(_POINTER):
        return None
    return int(re.search(rb"^size (\d{1,15})$", content, re.MULTILINE)[1])


def bounds(weights: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """The first operator of each sub-model, and the number of operators.

    Args:
        weights: bytes of each operator's weights, in order.
        sizes: bytes of each sub-model's file.
    """
    up_to = np.concatenate([[0], np.cumsum(weights)])
    wanted = np.cumsum([size if size >= _WITHOUT_WEIGHTS_BYTES else 0 for size in sizes], dtype=float)
    wanted *= up_to[-1] / wanted[-1]
    found = [0]
    for number, target in enumerate(wanted[:-1]):
        left = len(sizes) - number - 1  # each of these has an operator
        least, most = found[-1] + 1, len(weights) - left
        if sizes[number] < _WITHOUT_WEIGHTS_BYTES:
            found.append(least)
        else:
            found.append(least + int(np.abs(up_to[least : most + 1] - target).argmin()))
    return [*found, len(weights)]


def rebuilt(model: onnx.ModelProto, sizes: Sequence[int]) -> list[bytes]:
    """Cut a model into sub-models whose files have about these shares of its weights."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    counted: set[str] = set()
    own_bytes = []
    for node in graph.node:
        read = [name for name in dict.fromkeys(names_read(node)) if name in weights and name not in counted]
        own_bytes.append(sum(weights[name].ByteSize() for name in read))
        counted.update(read)
    types = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    results = {value.name for value in graph.output}
    parts = []
    for begin, end in pairwise(bounds(own_bytes, sizes)):
        nodes = graph.node[begin:end]
        made = {name for node in nodes for name in node.output}
        read = dict.fromkeys(name for node in nodes for name in names_read(node))
        later = results.union(*(names_read(node) for node in graph.node[end:]))
        part = onnx.helper.make_graph(
            nodes,
            f"operators {begin} to {end - 1}",
            [types[name] for name in read if name not in made and name not in weights],
            [types[name] for name in sorted(made & later)],
            [weights[name] for name in read if name in weights],
        )
        whole = onnx.helper.make_model(part, opset_imports=model.opset_import, ir_version=model.ir_version)
        parts.append(whole.SerializeToString())
    return parts


def sealed(partition: Partition, folder: Path) -> dict[str, Any]:
    """Seal the sub-models into files; give what the enclave needs to open them."""
    cipher = AESGCM(key := AESGCM.generate_key(256))
    parts = []
    for number, content in enumerate(partition.parts):
        path = folder / f"{number}.sealed"
        path.write_bytes(cipher.encrypt(number.to_bytes(12, "big"), content, b"sub-model %d" % number))
        graph = onnx.load_from_string(content).graph
        stored = {tensor.name for tensor in graph.initializer}
        reads = [value.name for value in graph.input if value.name not in stored]
        parts.append({"path": str(path), "reads": reads, "makes": [value.name for value in graph.output]})
    session = onnxruntime.InferenceSession(partition.model, providers=["CPUExecutionProvider"])
    return {
        "structure": partition.model,
        "key": key.hex(),
        "parts": parts,
        "inputs": [[one.name, one.type, one.shape] for one in session.get_inputs()],
        "outputs": [one.name for one in session.get_outputs()],
    }


# Inside the enclave.


@dataclass(frozen=True)
class _Value:
    name: str
    type: str
    shape: list[Any]


class Loaded:
    """Answers like the runtime's session: loads each sub-model when it is due, and frees it."""

    def __init__(self, told: Mapping[str, Any], options: onnxruntime.SessionOptions) -> None:
        self._told, self._options = told, options
        self._cipher = AESGCM(bytes.fromhex(told["key"]))
        self._last_read = {name: place for place, one in enumerate(told["parts"]) for name in one["reads"]}
        self._last_read |= dict.fromkeys(told["outputs"], len(told["parts"]))
        self._ns = np.zeros(3, np.int64)
        self._runs = self._opened_bytes = 0

    def get_inputs(self) -> list[_Value]:
        """Of the network."""
        return [_Value(*one) for one in self._told["inputs"]]

    def get_outputs(self) -> list[_Value]:
        """Of the network."""
        return [_Value(name, "", []) for name in self._told["outputs"]]

    def run(self, names: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        """Run one inference."""
        values = dict(feeds)
        self._opened_bytes = 0
        for place, part in enumerate(self._told["parts"]):
            begin = time.perf_counter_ns()
            content = self._opened(place, Path(part["path"]))
            opened = time.perf_counter_ns()
            session = onnxruntime.InferenceSession(content, self._options, providers=["CPUExecutionProvider"])
            self._opened_bytes += len(content)
            del content
            created = time.perf_counter_ns()
            made = session.run(part["makes"], {name: values[name] for name in part["reads"]})
            values |= zip(part["makes"], made, strict=True)
            for name in [name for name in values if self._last_read.get(name, -1) <= place]:
                del values[name]
            del session, made
            self._ns += (opened - begin, created - opened, time.perf_counter_ns() - created)
        self._runs += 1
        return [values[name] for name in names]

    def _opened(self, place: int, path: Path) -> bytes:
        from cryptography.exceptions import InvalidTag

        try:
            with path.open("rb") as file, child.mmap.mmap(file.fileno(), 0, prot=child.mmap.PROT_READ) as content:
                return self._cipher.decrypt(place.to_bytes(12, "big"), content, b"sub-model %d" % place)
        except InvalidTag:
            raise WeightsTamperedError(f"sub-model {place} is not the one that was sealed there") from None

    def describe(self) -> dict[str, Any]:
        """What running took so far: bytes, and mean nanoseconds of an inference."""
        means = (self._ns // max(1, self._runs)).tolist()
        return {
            "opened_bytes": self._opened_bytes,
            **dict(zip(("opening_ns", "loading_ns", "computing_ns"), means, strict=True)),
        }


class _Server(child._Server):
    """The process of a model, with sub-models in the place of stages."""

    def _staged(self, path: str) -> Loaded:
        return Loaded(json.loads(Path(path).read_text()), self._options({"profile_prefix": ""}))


class LoadingRunner(SoftEpcRunner):
    """The software enclave, where sub-models are loaded when they are due."""

    def start(self, job: Job) -> ChildSession:
        """Start the process."""
        environment = child_environment() | {
            "LD_PRELOAD": str(self.library()), "SOFTEPC_BUDGET_BYTES": str(job.epc_bytes or 0),
            "SOFTEPC_POLICY": job.policy,
        }  # fmt: skip
        command = [sys.executable, "-P", str(Path(__file__).resolve()), "--child"]
        return ChildSession(job, program(command, environment), runner=self.name, has_epc=True)


# Measuring.


def compared(checkout: Path, case: str, rounds: int, conditions: Mapping[str, Any]) -> dict[str, Any]:
    """All figures of a case."""
    name, epc = case.rsplit(":", 1)
    epc_bytes = parse_bytes(epc)
    with tempfile.TemporaryDirectory(prefix="sectum-inferonnx-") as folder:
        partition = partition_of(checkout, name, Path(folder))
        streams = sealed(partition, Path(folder))
        plan = make_plan(partition.model, enclave="softepc", epc_bytes=epc_bytes, batch=None, inputs={}, threads=1)
        found: dict[str, list[Measurement]] = {"native": [], "plan": [], "theirs": []}
        for _ in range(rounds):
            found["native"].append(measure_native(plan, conditions))
            found["plan"].append(measure_plan(plan, conditions))
            found["theirs"].append(
                measure(
                    plan.source.model, LoadingRunner(), epc_bytes=epc_bytes, streams=streams, compare_native=False,
                    references=stored_references(), **conditions,
                )
            )  # fmt: skip
        split = looked_at(plan, streams, epc_bytes)
    opened = {"native": 0, "plan": plan.planned.opened_bytes, "theirs": split["opened_bytes"]}
    ways = {way: _summary(rows, opened[way]) for way, rows in found.items()}
    ours, theirs = ways["plan"], ways["theirs"]
    return {
        "case": case, "kind": "measured", "sub_models": len(partition.parts), "origin": partition.origin, **ways,
        "theirs_split_ms": {part: split[f"{part}_ns"] / 1e6 for part in ("opening", "loading", "computing")},
        "theirs_largest_difference": split["largest_difference"],
        "fewer_bytes_moved": ours["moved_bytes"] < theirs["moved_bytes"],
        "less_latency": ours["latency_ms"] < theirs["latency_ms"],
    }  # fmt: skip


def looked_at(plan: PlanResult, streams: Mapping[str, Any], epc_bytes: int) -> dict[str, Any]:
    """How the time of the sub-models divides, and how far their outputs are from those of the whole network."""
    from sectum.enclave.runners.native import NativeRunner

    content = plan.source.model.bound_bytes()
    with NativeRunner().start(Job(model=content)) as session:
        wanted = session.outputs()
    with LoadingRunner().start(Job(model=content, epc_bytes=epc_bytes, streams=streams)) as session:
        session.sample(_LOOKED_AT)
        split = session.streaming()
        got = session.outputs()
    difference = max(float(np.abs(got[name] - value).max()) for name, value in wanted.items())
    return {**split, "largest_difference": difference}


def _summary(rows: Sequence[Measurement], opened_bytes: int) -> dict[str, Any]:
    loads, evictions = (statistics.median(getattr(one, name) or 0 for one in rows) for name in ("loads", "evictions"))
    return {
        "latency_ms": statistics.median(one.latency_ms for one in rows),
        "opened_bytes": opened_bytes,
        "loads": loads,
        "evictions": evictions,
        "moved_bytes": int(opened_bytes + PAGE_BYTES * (loads + evictions)),
        "peak_resident_bytes": max(one.peak_resident_bytes for one in rows),
        "outputs_equal_native": rows[-1].outputs_equal_native,
    }


def show(row: Mapping[str, Any]) -> None:
    """Print a case."""
    ours, theirs, split = row["plan"], row["theirs"], row["theirs_split_ms"]
    print(
        f"{row['case']:24} native {row['native']['latency_ms']:7.1f} ms  plan {ours['latency_ms']:7.1f} ms, "
        f"{format_bytes(ours['moved_bytes'])} moved  theirs ({row['sub_models']} sub-models, {row['origin']}) "
        f"{theirs['latency_ms']:7.1f} ms, {format_bytes(theirs['moved_bytes'])} moved; of one inference opening "
        f"{split['opening']:.1f}, loading {split['loading']:.1f}, computing {split['computing']:.1f} ms; outputs "
        f"differ by {row['theirs_largest_difference']:.1g} at most  "
        f"fewer bytes: {'yes' if row['fewer_bytes_moved'] else 'NO'}, "
        f"less latency: {'yes' if row['less_latency'] else 'NO'}",
        flush=True,
    )


def main() -> None:
    """Compare the cases."""
    if sys.argv[1:] == ["--child"]:
        child._Server = _Server  # type: ignore[misc]
        child.main()
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkout", type=Path, help="of https://github.com/Konstantina155/InferONNX")
    parser.add_argument("--case", action="append", help="MODEL:EPC, such as resnet152-v2-7:93MiB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=5, help="inferences in each process")
    parser.add_argument("--deadline", type=float, default=240.0, help="seconds for each process")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for case in options.case or CASES:
        conditions = {"runs": options.runs, "deadline_s": options.deadline}
        try:
            rows.append(compared(options.checkout, case, options.rounds, conditions))
        except SectumError as error:  # the other cases are measured all the same
            print(f"{case}: not measured: {error}", file=sys.stderr, flush=True)
            continue
        if not options.json:
            show(rows[-1])
    if options.json:
        json.dump(rows, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
