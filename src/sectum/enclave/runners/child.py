"""The process in which a model runs: ``python -m sectum.enclave.runners.child``. Only the runners start it.

Requests are JSON lines on standard input; the first is the job. Answers are JSON lines on the original standard output.
An answer is any number of ``{"row": ...}`` lines and one ``{"result": ...}`` or ``{"refused": "why"}``. If the model
cannot be loaded, it is ``{"unusable": "why"}``, and the process ends. Any other error ends the process with a traceback
on standard error, and the parent reports it. Lines are short, because buffers of 64 KiB and more would lie in the
enclave.

The model runs in ONNX Runtime's CPU provider with default settings, except for these: ``intra_op_num_threads`` is that
of the job and ``inter_op_num_threads`` is 1. With several threads, workers stop spinning when an inference ends, so as
not to disturb the reference kernels; with more threads than CPUs they do not spin at all.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import math
import mmap
import os
import platform
import resource
import select
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sectum.enclave.runners.reference_kernel import ReferenceKernels, WaitClock
from sectum.enclave.streaming.element_types import NUMPY_TYPES
from sectum.enclave.streaming.tampering import LinkEndedError, TamperedError

_PROFILE_WARM_UP = 2
_WHY_CHARACTERS = 400
_TAMPERED = 86  # the pager's code for protected memory that was changed outside, softepc.h
_LINK_ENDED = 85  # not the pager's: the enclave at the other end of a link is gone, see launch.py
_TRACE_CAPACITY = 1 << 22  # faults of one inference: 16 GiB of pages, each once


class _Counters(ctypes.Structure):
    """``struct softepc_counters`` of native/softepc/softepc.h."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "faults", "zero_fills", "loads", "minor_faults", "evictions", "sealed_bytes", "handler_ns",
            "resident_bytes", "peak_resident_bytes", "live_bytes", "budget_bytes", "syscalls_pinned",
            "syscalls_bounced",
        )
    ]  # fmt: skip


class _Pager:
    """The pager in this process. If it is not loaded, every count is zero."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self._read = getattr(library, "softepc_counters", None)
        self._library = library
        self.present = self._read is not None
        if self._read is not None:
            self._read.argtypes, self._read.restype = [ctypes.POINTER(_Counters)], None
            library.softepc_set_budget.argtypes = [ctypes.c_uint64]
            library.softepc_trace_start.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
            library.softepc_trace_stop.restype = ctypes.c_size_t

    def open(self, epc_bytes: int, policy: str) -> None:
        """Open the enclave if it was deferred: in a child of `sectum.enclave.runners.warm_parent`."""
        if self._read is None:
            return
        self._library.softepc_set_budget(epc_bytes)
        self._library.softepc_set_policy(policy.encode())
        self._library.softepc_start()  # does nothing if it is open already

    def counters(self, out: _Counters) -> None:
        if self._read is not None:
            self._read(ctypes.byref(out))

    def set_budget(self, n_bytes: int) -> str:
        """Set the budget; return why the pager refuses it, or an empty string."""
        if self._library.softepc_set_budget(n_bytes) == 0:
            return ""
        return os.strerror(ctypes.get_errno())

    def trace(self, run: Any, path: str) -> dict[str, int]:
        """Record the faults of ``run()`` and write page numbers (uint64) and kinds (uint8) to ``path``."""
        n_bytes = 9 * _TRACE_CAPACITY
        buffer = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        address = np.frombuffer(buffer, np.uint8).ctypes.data
        if self._library.softepc_trace_start(address, address + 8 * _TRACE_CAPACITY, _TRACE_CAPACITY):
            raise OSError(ctypes.get_errno(), "the pager refused the trace's buffers")
        run()
        total = int(self._library.softepc_trace_stop())
        kept = min(total, _TRACE_CAPACITY)
        with Path(path).open("wb", buffering=0) as file:
            file.write(memoryview(buffer)[: 8 * kept])
            file.write(memoryview(buffer)[8 * _TRACE_CAPACITY : 8 * _TRACE_CAPACITY + kept])
        return {"kept": kept, "total": total}


def _status_bytes() -> dict[str, int]:
    """Sizes from this process's status file, in bytes; 0 if one is missing."""
    wanted = dict.fromkeys(("VmRSS", "VmHWM", "RssAnon"), 0)
    for line in Path("/proc/self/status").read_text().splitlines():
        key, _, rest = line.partition(":")
        if key in wanted:
            wanted[key] = int(rest.split()[0]) << 10
    return wanted


class _InferenceFailed(Exception):
    """The runtime refused to run the model with the inputs that were drawn."""


def _given_values(path: str) -> dict[str, NDArray[Any]]:
    """Read the inputs whose values the caller gave."""
    if not path:
        return {}
    with np.load(path, allow_pickle=False) as arrays:
        return {str(name): arrays[str(index)] for index, name in enumerate(arrays["names"])}


def _inputs(
    session: onnxruntime.InferenceSession,
    seed: int,
    ranges: Mapping[str, tuple[int, int]],
    shapes: Mapping[str, list[int]] = MappingProxyType({}),
    values: Mapping[str, NDArray[Any]] = MappingProxyType({}),
) -> dict[str, NDArray[Any]]:
    """Make inputs from the seed: floats in [0, 1), like pixels; integers in their range, or 0 or 1; booleans."""
    rng = np.random.default_rng(seed)
    made: dict[str, NDArray[Any]] = {}
    for spec in session.get_inputs():
        if spec.name in values:
            made[spec.name] = values[spec.name]
            continue
        shape = shapes.get(spec.name, spec.shape)
        if not all(isinstance(size, int) and size >= 0 for size in shape):
            raise ValueError(f"input {spec.name} has shape {shape}: bind every dimension first")
        if spec.type not in NUMPY_TYPES:
            raise ValueError(f"input {spec.name} is a {spec.type}: no values can be made for it")
        dtype = np.dtype(NUMPY_TYPES[spec.type])
        if dtype.kind == "f":
            made[spec.name] = rng.random(shape, np.float32).astype(dtype, copy=False)
        elif spec.name in ranges:
            made[spec.name] = rng.integers(*ranges[spec.name], shape, np.int64).astype(dtype, copy=False)
        else:
            made[spec.name] = rng.integers(0, 2, shape, np.uint8).astype(dtype, copy=False)
    return made


class _Server:
    """Holds the model and answers requests."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._threads = int(job["threads"])
        if job["cpus"]:
            os.sched_setaffinity(0, job["cpus"])
        self._pager = _Pager()
        self._pager.open(int(job["epc_bytes"]), job["policy"])
        self._references = ReferenceKernels()
        self._before, self._after = _Counters(), _Counters()
        self._baseline_bytes = 0
        self._baseline_bytes = self._memory()["live_bytes"]
        self._session: Any
        self._chained: Any = None
        if job["link"]:
            self._session = self._chained = self._in_chain(job["streams"], job["link"])
        elif job["streams"]:
            self._session = self._staged(job["streams"])
        else:
            self._session = onnxruntime.InferenceSession(
                self._read_model(job["model"]), self._options(job), providers=["CPUExecutionProvider"]
            )
        gc.collect()
        self._wait_clock = WaitClock()  # after the runtime has started its threads
        self._feeds = _inputs(
            self._session, int(job["seed"]), job["input_ranges"], job["shapes"], _given_values(job["values"])
        )
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._last_ns = 0

    def _staged(self, path: str) -> Any:
        from sectum.enclave.streaming.session import StagedSession, Streams

        streams = Streams.of(json.loads(Path(path).read_text()))
        opening = 1 if streams.buffers > 1 else 0
        return StagedSession(streams, max(1, self._threads - opening))

    def _in_chain(self, path: str, link: dict[str, Any]) -> Any:
        from sectum.enclave.streaming.chained import ChainedSession, Place

        streams = json.loads(Path(path).read_text())
        opening = 1 if streams["buffers"] > 1 else 0
        return ChainedSession(streams, Place.of(link), max(1, self._threads - opening))

    @staticmethod
    def _read_model(path: str) -> bytes:
        """Copy the file into the process's memory, as an enclave must, with its own code instead of a system call."""
        with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
            return content[:]

    def _options(self, job: dict[str, Any]) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if self._threads > 1:
            options.add_session_config_entry("session.force_spinning_stop", "1")
        if self._threads > len(os.sched_getaffinity(0)):
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if job["profile_prefix"]:
            options.enable_profiling = True
            options.profile_file_prefix = job["profile_prefix"]
        return options

    def describe(self) -> dict[str, Any]:
        """Answer the job: versions and inputs."""
        return {
            "versions": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                "onnxruntime": onnxruntime.__version__,
            },
            "inputs": {name: [list(value.shape), str(value.dtype)] for name, value in self._feeds.items()},
            "pager": self._pager.present,
        }

    def _run(self) -> list[Any]:
        """Run one inference; in a chain, this enclave's part of it."""
        if self._chained is None:
            return self._infer()
        self._chained.receive()
        outputs = self._infer()
        self._chained.send()
        return outputs

    def _infer(self) -> list[Any]:
        try:
            outputs: list[Any] = self._session.run(self._outputs, self._feeds)
        except (MemoryError, TamperedError):  # not an error of the model
            raise
        except Exception as error:
            raise _InferenceFailed(f"{_first_line(error)}{self._drawn()}") from error
        return outputs

    def _drawn(self) -> str:
        """Say which integers the inputs hold: a model may accept others."""
        drawn = [
            f"'{name}' from {value.min()} to {value.max()}"
            for name, value in self._feeds.items()
            if value.dtype.kind in "iu" and value.size
        ]
        return f". Integer inputs were drawn at random: {', '.join(drawn)}" if drawn else ""

    def _sample(self, before_ns: tuple[int, int]) -> dict[str, int]:
        self._pager.counters(self._before)
        waited = self._wait_clock.now_ns()
        start, own_start = time.perf_counter_ns(), time.thread_time_ns()
        outputs = self._infer()
        own_ns, wall_ns = time.thread_time_ns() - own_start, time.perf_counter_ns() - start
        wait_ns = self._wait_clock.now_ns() - waited
        self._pager.counters(self._after)
        del outputs
        # CPU time excludes what other virtual machines took, if the hypervisor reports it; wait_ns of the scheduler
        # does not. With several threads the slowest decides, and how long it waited is not known.
        latency_ns = own_ns if self._threads == 1 else wall_ns
        if self._threads == 1:
            wait_ns = max(0, wall_ns - own_ns)
        self._last_ns = wall_ns
        after_ns = self._references.times_ns(wall_ns)
        row = {
            "latency_ns": max(1, latency_ns),
            "wall_ns": wall_ns,
            "wait_ns": min(wait_ns, wall_ns),
            "products_before_ns": before_ns[0],
            "products_after_ns": after_ns[0],
            "sums_before_ns": before_ns[1],
            "sums_after_ns": after_ns[1],
        }
        for name in ("loads", "evictions", "zero_fills", "minor_faults", "handler_ns"):
            row[name] = getattr(self._after, name) - getattr(self._before, name)
        return row

    def sample(self, n: int, answer: Any) -> None:
        """Send a row for each of ``n`` inferences; the reference after one is the reference before the next.

        In a chain, references run around this enclave's part, while the others wait.
        """
        if self._chained is not None:
            for _ in range(n):
                self._chained.receive()
                row = self._sample(self._references.times_ns(self._last_ns))
                self._chained.send()
                answer({"row": row})
            return
        before_ns = self._references.times_ns(self._last_ns)
        for _ in range(n):
            row = self._sample(before_ns)
            before_ns = row["products_after_ns"], row["sums_after_ns"]
            answer({"row": row})

    def stream(self, n: int, answer: Any) -> None:
        """Run ``n`` inferences as fast as they come, and send when each was done, in nanoseconds."""
        done_ns = []
        for _ in range(n):
            self._run()
            done_ns.append(time.perf_counter_ns())
        for one in done_ns:
            answer({"row": {"done_ns": one}})

    def digest(self) -> str:
        """SHA-256 over name, type, shape and bytes of each output."""
        state = hashlib.sha256()
        for name, value in zip(self._outputs, self._run(), strict=True):
            if not isinstance(value, np.ndarray) or value.dtype.hasobject:
                raise ValueError(f"output {name} is not a numeric tensor: it cannot be compared")
            state.update(f"{name}\0{value.dtype.str}\0{value.shape}\0".encode())
            state.update(np.ascontiguousarray(value).data)
        return state.hexdigest()

    def write_outputs(self, path: str) -> None:
        """Write the outputs of one inference, each by its number, and their names."""
        arrays: dict[str, Any] = {str(index): value for index, value in enumerate(self._run())}
        for name, value in zip(self._outputs, arrays.values(), strict=True):
            if not isinstance(value, np.ndarray) or value.dtype.hasobject:
                raise _InferenceFailed(f"output '{name}' is not a tensor of numbers")
        with Path(path).open("wb") as file:
            np.savez(file, names=np.array(self._outputs), **arrays)

    def output_types(self, answer: Any) -> None:
        """Send name, shape and type of each output that is a tensor of numbers."""
        for name, value in zip(self._outputs, self._run(), strict=True):
            if isinstance(value, np.ndarray) and not value.dtype.hasobject:
                answer({"row": {"name": name, "shape": value.shape, "dtype": value.dtype.name}})

    def _memory(self) -> dict[str, int]:
        if self._pager.present:
            self._pager.counters(self._after)
            now = {key: getattr(self._after, key) for key in ("live_bytes", "resident_bytes", "peak_resident_bytes")}
        else:
            status = _status_bytes()
            now = {
                "live_bytes": status["RssAnon"],
                "resident_bytes": status["VmRSS"],
                "peak_resident_bytes": status["VmHWM"],
            }
        return now | {"model_live_bytes": max(0, now["live_bytes"] - self._baseline_bytes)}

    def handle(self, request: dict[str, Any], answer: Any) -> None:
        """Answer one request."""
        result: Any = None
        match request["do"]:
            case "sample":
                self.sample(int(request["n"]), answer)
            case "stream":
                self.stream(int(request["n"]), answer)
            case "digest":
                result = self.digest()
            case "outputs":
                self.write_outputs(request["path"])
            case "output_types":
                self.output_types(answer)
            case "memory":
                result = self._memory()
            case "streaming":
                result = self._session.describe()
            case "set_epc":
                if why := self._pager.set_budget(int(request["epc_bytes"])):
                    answer({"refused": why})
                    return
            case "trace":
                result = self._pager.trace(self._run, request["path"])
            case "profile":
                for _ in range(0 if self._last_ns else _PROFILE_WARM_UP):
                    self._run()
                self.sample(int(request["n"]), answer)
                result = self._session.end_profiling()
            case other:
                raise ValueError(f"unknown request {other!r}")
        answer({"result": result})


def _end_with_parent() -> None:
    """End this process when its parent closes the pipe to its standard input, or dies."""
    parent = select.poll()
    parent.register(sys.stdin.fileno(), 0)
    parent.poll()
    os._exit(0)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:_WHY_CHARACTERS]}"


def main() -> None:
    """Serve the job on standard input until it is closed."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints must not mix with the answers

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message).encode() + b"\n")

    threading.Thread(target=_end_with_parent, daemon=True).start()
    job = json.loads(sys.stdin.buffer.readline())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Ends a run that hangs, if the parent was killed and cannot end it.
    cpu_s = math.ceil(float(job["deadline_s"])) * (int(job["threads"]) + 1) + 5
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    try:
        server = _Server(job)
    except (MemoryError, OSError):  # not an error of the model
        raise
    except Exception as error:  # noqa: BLE001 - the runtime's exceptions have no common class
        answer({"unusable": _first_line(error)})
        return
    answer({"result": server.describe()})
    try:
        for line in sys.stdin.buffer:
            server.handle(json.loads(line), answer)
    except _InferenceFailed as error:
        answer({"unusable": str(error)})
    except (TamperedError, LinkEndedError) as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        # At once: the parent would kill a process that takes long to end, and then not know why it ended.
        os._exit(_TAMPERED if isinstance(error, TamperedError) else _LINK_ENDED)


if __name__ == "__main__":
    main()
