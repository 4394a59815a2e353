"""The sealed path against AES-256-GCM alone: client, host, worker and back, with nothing computed.

Batches of bytes go through a whole service (client, host and worker, each a process) whose paced accelerator waits for
nothing, and come back: `echo` gives as many bytes as it got, `scores` eight. In turns with that, the same bytes are
sealed once (echo: there and back) in the same chunks by as many threads as there are cores, with nothing else done.
`share` is the time of the latter over that of the former, `cpu_share` the same of the processor time of all processes,
which also means something where other programs run. As the path has to open what was sealed, no share is over a half.

How far sockets keep from that half tells a third system, `bare`: three processes that do nothing but seal, send, splice
from one socket into another, receive and open, without protocol, keys, receipts or checks. A fourth, `bare hashing`, is
`bare` whose client and worker also hash what a receipt has to bind, input and output, with BLAKE3, chunk by chunk, in
the threads that send and receive them: four passes where the answer is as large as the batch. `to bare` and `to bare
hashing` are the path's time over theirs. Medians over the repetitions.

    python benchmarks/sealed_path.py [--repetitions 9] [--mib 1 --mib 9] [--chunk-kib 64 ...] [--json PATH]

Chunk `usual` is what the service uses where nobody asks for another size; others are measured with --chunk-kib.

Exit code: 0, or 1 if the path takes longer than its bar with usual chunks (1.5 times `bare` with less than 9 MiB, 1.25
times from 9 MiB on), or 2 if the benchmark did not run. The bar is a multiple of `bare`, which binds no result, because
whoever uses the service waits for the hashing, too. `to bare hashing` only shows which part of the rest is not hashing.
It decides nothing. The last line and --json count for both the rows that are over the bar. Let nothing else run.
"""

from __future__ import annotations

import argparse
import collections
import fcntl
import json
import multiprocessing
import os
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sectum.hetee.bench.context import machine
from sectum.hetee.bench.local_rack import LocalRack
from sectum.hetee.client import Session
from sectum.hetee.data_plane.chunk_sizes import usual_chunk_bytes
from sectum.hetee.data_plane.messages import Pace
from sectum.hetee.errors import HeteeError
from sectum.hetee.host.sockets import PIPE_BYTES, enlarge
from sectum.hetee.worker.process import widen

MIB = 1 << 20
TAG_BYTES = 16
ON_THE_WAY = 4
BLOCK_BYTES = 96 * MIB  # through the path in one block, at least
LARGE_MIB, LARGE_BAR, SMALL_BAR = 9, 1.25, 1.5  # the path's time over that of `bare`, at most
BASELINES = {"to_bare": "bare", "to_bare_hashing": "bare_hashing"}
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


class Bare:
    """Client, host and worker that only seal, send, splice, receive and open, chunk by chunk.

    Args:
        data: of a batch.
        chunk_bytes: of all chunks but the last.
        echo: whether as many bytes come back; else eight.
        hashing: whether client and worker hash what they send and what they receive.
    """

    def __init__(self, data: memoryview, chunk_bytes: int, *, echo: bool, hashing: bool = False) -> None:
        self._data, self._chunk_bytes, self._echo, self._hashing = data, chunk_bytes, echo, hashing
        spawn = multiprocessing.get_context("spawn")
        host, worker = socket.socketpair()
        with host, worker, socket.create_server(("127.0.0.1", 0)) as door:
            self._processes = [
                spawn.Process(target=bare_host, args=(door, host), daemon=True),
                spawn.Process(target=bare_worker, args=(worker, len(data), chunk_bytes, echo, hashing), daemon=True),
            ]
            for process in self._processes:
                process.start()
            self._socket = socket.create_connection(door.getsockname())
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.run(ON_THE_WAY)  # both run now, and hold what they need

    def __enter__(self) -> Bare:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._socket.close()
        for process in self._processes:
            process.join()

    @property
    def pids(self) -> list[int]:
        """Of host and worker."""
        return [process.pid for process in self._processes if process.pid is not None]

    def run(self, batches: int) -> None:
        """Send so many batches and take their answers."""
        answered = threading.Semaphore(ON_THE_WAY)

        def receive() -> None:
            n_bytes = len(self._data) if self._echo else 8
            place = memoryview(bytearray(n_bytes))
            for _ in range(batches):
                receive_opened(self._socket, place, self._chunk_bytes, hashing=self._hashing)
                answered.release()

        receiver = threading.Thread(target=receive)
        receiver.start()
        for _ in range(batches):
            answered.acquire()
            send_sealed(self._socket, self._data, self._chunk_bytes, hashing=self._hashing)
        receiver.join()


def send_sealed(peer: socket.socket, data: memoryview, chunk_bytes: int, *, hashing: bool) -> None:
    """Seal and send, a chunk at a time; with ``hashing`` each chunk is hashed after it was sent, as in the service."""
    cipher, sealed = AESGCM(bytes(32)), memoryview(bytearray(chunk_bytes + TAG_BYTES))
    whole = blake3()
    for begin in range(0, len(data), chunk_bytes):
        part = data[begin : begin + chunk_bytes]
        cipher.encrypt_into(bytes(12), part, b"", sealed[: len(part) + TAG_BYTES])
        peer.sendall(sealed[: len(part) + TAG_BYTES])
        if hashing:
            whole.update(part)
    if hashing:
        whole.digest()


def receive_opened(peer: socket.socket, place: memoryview, chunk_bytes: int, *, hashing: bool) -> bool:
    """Receive and open, a chunk at a time, and hash it with ``hashing``; False if nothing comes any more."""
    cipher, sealed = AESGCM(bytes(32)), memoryview(bytearray(chunk_bytes + TAG_BYTES))
    whole = blake3()
    for begin in range(0, len(place), chunk_bytes):
        part = place[begin : begin + chunk_bytes]
        if not peer.recv_into(sealed[: len(part) + TAG_BYTES], 0, socket.MSG_WAITALL):
            return False
        cipher.decrypt_into(bytes(12), sealed[: len(part) + TAG_BYTES], b"", part)
        if hashing:
            whole.update(part)
    if hashing:
        whole.digest()
    return True


def bare_host(door: socket.socket, worker: socket.socket) -> None:
    """Splice between one client and the worker."""
    client, _ = door.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    enlarge(client)
    enlarge(worker)

    def forward(source: socket.socket, sink: socket.socket) -> None:
        out, into = os.pipe()
        fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        while n_bytes := os.splice(source.fileno(), into, PIPE_BYTES):
            while n_bytes:
                n_bytes -= os.splice(out, sink.fileno(), n_bytes)
        sink.shutdown(socket.SHUT_WR)

    back = threading.Thread(target=forward, args=(worker, client))
    back.start()
    forward(client, worker)
    back.join()


def bare_worker(host: socket.socket, n_bytes: int, chunk_bytes: int, echo: bool, hashing: bool) -> None:
    """Open each batch and seal its answer."""
    widen(host)
    place = memoryview(bytearray(n_bytes))
    while receive_opened(host, place, chunk_bytes, hashing=hashing):
        send_sealed(host, place if echo else place[:8], chunk_bytes, hashing=hashing)


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


def measure(rack: LocalRack, mib: int, chunk_kib: int | None, repetitions: int) -> Iterator[dict[str, Any]]:
    """Both answers of one batch size and chunk size."""
    data = np.random.default_rng(1).integers(0, 256, mib * MIB, np.uint8)
    chunk_bytes = usual_chunk_bytes(data.nbytes, alone=False) if chunk_kib is None else chunk_kib << 10
    batches = max(ON_THE_WAY, BLOCK_BYTES // data.nbytes)
    with rack.connect_and_settle(
        accelerator="paced", chunk_bytes=None if chunk_kib is None else chunk_bytes
    ) as session:
        session.load(model())
        pids = rack.pids()
        for answer, outputs in ANSWERS.items():
            echo = answer == "echo"
            with (
                Bare(memoryview(data), chunk_bytes, echo=echo) as bare,
                Bare(memoryview(data), chunk_bytes, echo=echo, hashing=True) as hashing,
            ):
                path = SealedPath(session, data, outputs)
                path.run(ON_THE_WAY)
                alone = Alone(memoryview(data), chunk_bytes, 2 if echo else 1)
                alone.run(1)
                systems: dict[str, Alone | Bare | SealedPath] = {
                    "alone": alone,
                    "bare": bare,
                    "bare_hashing": hashing,
                    "path": path,
                }
                all_pids = pids + bare.pids + hashing.pids
                samples = []
                for repetition in range(repetitions):
                    first = repetition % len(systems)
                    turn = list(systems)[first:] + list(systems)[:first]
                    samples.append({name: timed(systems[name].run, batches, all_pids) for name in turn})
            clock, processor = (
                {name: statistics.median(sample[name][at] for sample in samples) * 1e3 for name in systems}
                for at in (0, 1)
            )
            yield {
                "mib": mib,
                "chunk_kib": chunk_bytes >> 10,
                "chunk": "usual" if chunk_kib is None else "given",
                "answer": answer,
                **{f"{name}_ms": ms for name, ms in clock.items()},
                **{f"{name}_processor_ms": ms for name, ms in processor.items()},
                "share": statistics.median(s["alone"][0] / s["path"][0] for s in samples),
                "cpu_share": statistics.median(s["alone"][1] / s["path"][1] for s in samples),
                "bare_share": statistics.median(s["alone"][0] / s["bare"][0] for s in samples),
                **{
                    ratio: statistics.median(s["path"][0] / s[name][0] for s in samples)
                    for ratio, name in BASELINES.items()
                },
                "samples_s": samples,
            }


def bar(mib: int) -> float:
    """The most that the path may take, in times of a baseline."""
    return LARGE_BAR if mib >= LARGE_MIB else SMALL_BAR


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    chunk = f"{row['chunk_kib']}{'*' if row['chunk'] == 'usual' else ''}"
    return (
        f"{row['mib']:9}  {chunk:>9}  {row['answer']:6}  {row['alone_ms']:12.2f}  {row['bare_ms']:7.2f}"
        f"  {row['bare_hashing_ms']:15.2f}  {row['path_ms']:7.2f}  {row['share']:5.2f}  {row['cpu_share']:9.2f}"
        f"  {row['bare_share']:10.2f}  {row['to_bare']:7.2f}  {row['to_bare_hashing']:15.2f}"
    )


def main() -> int:
    """Measures, prints, and judges."""
    parser = argparse.ArgumentParser(description="The sealed path against AES-256-GCM alone.")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--mib", type=int, action="append", help="of a batch; repeat it (default: 1 and 9)")
    parser.add_argument("--chunk-kib", type=int, action="append", help="also with chunks of this size; repeat it")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write everything there ('-' for stdout)")
    arguments = parser.parse_args()
    quiet = arguments.json is not None and str(arguments.json) == "-"
    rows = []
    if not quiet:
        print(
            "batch MiB  chunk KiB  answer  AES alone ms  bare ms  bare hashing ms  path ms  share  cpu share"
            "  bare share  to bare  to bare hashing"
        )
    try:
        with LocalRack("paced=1", arguments=["--spares", "1"]) as rack:
            for mib in arguments.mib or [1, 9]:
                for chunk_kib in [None, *(arguments.chunk_kib or [])]:
                    for row in measure(rack, mib, chunk_kib, arguments.repetitions):
                        rows.append(row)
                        if not quiet:
                            print(line(row), flush=True)
    except (HeteeError, OSError) as error:
        print(f"the benchmark did not run: {error}", file=sys.stderr)
        return 2
    usual = [row for row in rows if row["chunk"] == "usual"]
    missed = {ratio: sum(row[ratio] > bar(row["mib"]) for row in usual) for ratio in BASELINES}
    result = {
        "what": "time of the sealed path, of bare sockets with the same sealing, with and without the same hashing, "
        "and of AES-256-GCM alone, measured",
        "missed": missed,
        "rows": rows,
        "context": machine(),
    }
    if quiet:
        print(json.dumps(result))
    else:
        bars = f"at most {SMALL_BAR}, and {LARGE_BAR} from {LARGE_MIB} MiB on"
        counts = f"{missed['to_bare']}; `to bare hashing`: {missed['to_bare_hashing']}"
        print(f"* usual chunks. Rows of them that are over the bar ({bars}): `to bare`: {counts}")
        if arguments.json:
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if missed["to_bare"] else 0


if __name__ == "__main__":
    sys.exit(main())
