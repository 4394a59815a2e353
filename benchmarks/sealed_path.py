"""The sealed path against AES-256-GCM alone: client, host, worker and back, with nothing computed.

Batches of bytes go through a whole service (client, host and worker, each a process) whose paced accelerator waits for
nothing, and come back: `echo` gives as many bytes as it got, `scores` eight. In turns with that, the same bytes are
sealed once (echo: there and back) in the same chunks by as many threads as there are cores, with nothing else done.
`share` is the time of the latter over that of the former, `cpu_share` the same of the processor time of all processes,
which also means something where other programs run. As the path has to open what was sealed, no share is over a half.
Medians over the repetitions.

    python benchmarks/sealed_path.py [--repetitions 9] [--mib 1 --mib 9] [--chunk-kib 64 ...] [--json PATH]

Chunk `usual` is what the service uses where nobody asks for another size. Exit code: 0, or 1 if the share of `echo`
with usual chunks is below --limit (0.35), or 2 if the benchmark did not run. Let nothing else run.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sectum.hetee.bench.context import machine
from sectum.hetee.bench.rack import Rack
from sectum.hetee.client import Session
from sectum.hetee.errors import HeteeError
from sectum.hetee.wire.header import usual_chunk_bytes
from sectum.hetee.wire.messages import Pace

MIB = 1 << 20
TAG_BYTES = 16
ON_THE_WAY = 4
BLOCK_BYTES = 96 * MIB  # through the path in one block, at least
CHUNKS_KIB = (64, 256, 512, 1024)
NO_TIME = Pace(preprocess_us=0, compute_us=1, source="no time at all")
ANSWERS = {"echo": ("echo",), "scores": ("scores",)}


def model() -> bytes:
    """An ONNX model of bytes [n]: `echo` is as many bytes, `scores` is one number."""
    from onnx import TensorProto, helper

    nodes = [helper.make_node("Identity", ["x"], ["echo"]), helper.make_node("Shape", ["x"], ["scores"])]
    x, echo = (helper.make_tensor_value_info(name, TensorProto.UINT8, ["n"]) for name in ("x", "echo"))
    scores = helper.make_tensor_value_info("scores", TensorProto.INT64, [1])
    graph = helper.make_graph(nodes, "path", [x], [echo, scores])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return bytes(made.SerializeToString())


def seal(data: memoryview, chunk_bytes: int, times: int) -> None:
    """Seal each chunk, so many times."""
    cipher = AESGCM(bytes(32))
    sealed = memoryview(bytearray(chunk_bytes + TAG_BYTES))
    for _ in range(times):
        for begin in range(0, len(data), chunk_bytes):
            part = data[begin : begin + chunk_bytes]
            cipher.encrypt_into(bytes(12), part, b"", sealed[: len(part) + TAG_BYTES])


class Alone:
    """AES-256-GCM and nothing else, in one thread for each core."""

    def __init__(self, data: memoryview, chunk_bytes: int, times: int) -> None:
        self._work = (data, chunk_bytes, times)
        self._cores = len(os.sched_getaffinity(0))

    def run(self, batches: int) -> None:
        """Do the work of so many batches."""
        with ThreadPoolExecutor(self._cores) as threads:
            for future in [threads.submit(seal, *self._work) for _ in range(batches)]:
                future.result()


class SealedPath:
    """The service, with a few batches on their way at a time."""

    def __init__(self, session: Session, data: np.ndarray[Any, Any], outputs: tuple[str, ...]) -> None:
        self._session, self._data, self._outputs = session, data, outputs

    def run(self, batches: int) -> None:
        """Send so many batches and take their answers."""
        waiting: collections.deque[Any] = collections.deque()
        for _ in range(batches):
            if len(waiting) == ON_THE_WAY:
                waiting.popleft().result()
            waiting.append(self._session.submit(self._data, outputs=self._outputs, pace=NO_TIME))
        while waiting:
            waiting.popleft().result()


def processor_s(pids: list[int]) -> float:
    """Processor time of this process and of others, all their threads, in seconds."""
    ns = 0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            ns += int((thread / "schedstat").read_text().split()[0])
    return time.process_time() + ns / 1e9


def timed(run: Callable[[int], None], batches: int, pids: list[int]) -> tuple[float, float]:
    """Seconds of one batch: by the clock, and of all processors."""
    before_s, begun_s = processor_s(pids), time.perf_counter()
    run(batches)
    return (time.perf_counter() - begun_s) / batches, (processor_s(pids) - before_s) / batches


def measure(rack: Rack, mib: int, chunk_kib: int | None, repetitions: int) -> Iterator[dict[str, Any]]:
    """Both answers of one batch size and chunk size."""
    data = np.random.default_rng(1).integers(0, 256, mib * MIB, np.uint8)
    chunk_bytes = usual_chunk_bytes(data.nbytes) if chunk_kib is None else chunk_kib << 10
    batches = max(ON_THE_WAY, BLOCK_BYTES // data.nbytes)
    with rack.connect(chunk_bytes=None if chunk_kib is None else chunk_bytes) as session:
        session.load(model())
        pids = rack.pids()
        for answer, outputs in ANSWERS.items():
            alone = Alone(memoryview(data), chunk_bytes, 2 if answer == "echo" else 1)
            path = SealedPath(session, data, outputs)
            path.run(ON_THE_WAY)
            alone.run(1)
            samples: list[tuple[tuple[float, float], tuple[float, float]]] = []
            for repetition in range(repetitions):
                first, second = (alone, path) if repetition % 2 else (path, alone)
                taken = {system: timed(system.run, batches, pids) for system in (first, second)}
                samples.append((taken[alone], taken[path]))
            yield {
                "mib": mib,
                "chunk_kib": chunk_bytes >> 10,
                "chunk": "usual" if chunk_kib is None else "given",
                "answer": answer,
                "alone_ms": statistics.median(alone_s for (alone_s, _), _ in samples) * 1e3,
                "path_ms": statistics.median(path_s for _, (path_s, _) in samples) * 1e3,
                "share": statistics.median(a[0] / p[0] for a, p in samples),
                "cpu_share": statistics.median(a[1] / p[1] for a, p in samples),
                "samples_s": [{"alone": a, "path": p} for a, p in samples],
            }


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    chunk = f"{row['chunk_kib']}{'*' if row['chunk'] == 'usual' else ''}"
    return (
        f"{row['mib']:9}  {chunk:>9}  {row['answer']:6}  {row['alone_ms']:12.2f}  {row['path_ms']:7.2f}"
        f"  {row['share']:5.2f}  {row['cpu_share']:9.2f}"
    )


def main() -> int:
    """Measures, prints, and judges."""
    parser = argparse.ArgumentParser(description="The sealed path against AES-256-GCM alone.")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--mib", type=int, action="append", help="of a batch; repeat it (default: 1 and 9)")
    parser.add_argument("--chunk-kib", type=int, action="append", help="repeat it (default: usual, 64, 256, 512, 1024)")
    parser.add_argument("--limit", type=float, default=0.35, help="the least share of echo with usual chunks")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything there ('-' for stdout)")
    arguments = parser.parse_args()
    quiet = arguments.json is not None and str(arguments.json) == "-"
    rows = []
    if not quiet:
        print("batch MiB  chunk KiB  answer  AES alone ms  path ms  share  cpu share")
    try:
        with Rack("paced") as rack:
            for mib in arguments.mib or [1, 9]:
                for chunk_kib in [None, *(arguments.chunk_kib or CHUNKS_KIB)]:
                    for row in measure(rack, mib, chunk_kib, arguments.repetitions):
                        rows.append(row)
                        if not quiet:
                            print(line(row), flush=True)
    except (HeteeError, OSError) as error:
        print(f"the benchmark did not run: {error}", file=sys.stderr)
        return 2
    least = min(row["share"] for row in rows if row["chunk"] == "usual" and row["answer"] == "echo")
    result = {
        "what": "time of AES-256-GCM alone over that of the sealed path, measured",
        "least_share": least,
        "limit": arguments.limit,
        "rows": rows,
        "context": machine(),
    }
    if quiet:
        print(json.dumps(result))
    else:
        print(f"* usual chunks. Least share of echo with them: {least:.2f} (limit {arguments.limit})")
        if arguments.json:
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if least >= arguments.limit else 1


if __name__ == "__main__":
    sys.exit(main())
