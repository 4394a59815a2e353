"""A session over one child process: starts it, sends requests, watches its memory and deadline, kills it if needed.

The three runners differ only in the command and the environment that they start; this is everything else.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sectum.enclave.runners.launch import Launch, Process, ended_error
from sectum.enclave.runners.runner import FaultTrace, Job, OperatorTime, ProcessMemory, Sample, SessionInfo, check_epc
from sectum.enclave.runners.shared_files import SharedFiles
from sectum.errors import EnclaveDeadline, EnclaveFailed, RuntimeRefused, UsageError
from sectum.units import format_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WATCH_S = 0.05  # how often the child's memory is checked while it works on an answer
_CLOSE_S = 2.0  # how long a process may take to exit after its input was closed
_STDERR_TAIL_BYTES = 2000
_MODEL, _VALUES, _STREAMS, _OUTPUTS, _TRACE = "model.onnx", "inputs.npz", "streams.json", "outputs.npz", "trace"


class ChildSession:
    """A session over one child process; implements `sectum.enclave.runners.runner.RunningModel`.

    Args:
        job: what to run.
        launch: starts the process.
        runner: the runner's name, for messages.
        has_epc: whether the pager is in the process.
        folder: folder that `close` removes, for a process that sees no other files than those in it; it writes to
            ``out`` there. Without one, files that both share have no names, but for a profile.
    """

    def __init__(
        self,
        job: Job,
        launch: Launch,
        *,
        runner: str,
        has_epc: bool,
        folder: tempfile.TemporaryDirectory[str] | None = None,
    ) -> None:
        self._job = job
        self._runner = runner
        self._has_epc = has_epc
        self._may_profile = job.profile
        self._started_s = time.monotonic()
        self._watched_s = 0.0
        self._buffer = b""
        self._process: Process | None = None
        self._folder, self._out = folder, None
        self._files = self._own = SharedFiles()  # what the process opens by path, and its messages
        try:
            if folder is None and job.profile:  # the runtime chooses the name of its profile
                self._folder = tempfile.TemporaryDirectory(prefix="sectum-", ignore_cleanup_errors=True)
            if self._folder is not None:
                self._out = Path(self._folder.name).resolve() / "out"
                self._out.mkdir(exist_ok=True)
                self._files = SharedFiles(self._out)
            self._stderr = self._own.new("stderr")
            self._process = launch(Path("/") if self._folder is None else Path(self._folder.name), self._stderr)
            self.info = self._introduce()
        except OSError as error:
            self.close()
            raise EnclaveFailed(
                f"the {runner} process could not be started: {error}. It needs space for the model in "
                f"{tempfile.gettempdir()} (set TMPDIR to another folder) and permission to start processes"
            ) from error
        except BaseException:
            self.close()
            raise

    def _place_model(self) -> str:
        """The file that the child reads: the job's own, or its bytes."""
        job = self._job
        if job.streams is not None:  # the child reads the written graph instead
            return str(job.streams["structure"])
        if isinstance(job.model, Path):
            return str(job.model.resolve())
        self._files.new(_MODEL).write(job.model)
        return self._files.path(_MODEL)

    def _place_values(self) -> str:
        """A file with the inputs whose values are given; empty if there are none."""
        values = {name: value for name, value in self._job.inputs.items() if not isinstance(value, tuple)}
        if not values:
            return ""
        import numpy as np

        # By number: a name may be anything, also a parameter of this function.
        arrays: dict[str, Any] = {str(index): value for index, value in enumerate(values.values())}
        np.savez(self._files.new(_VALUES), names=np.array(list(values)), **arrays)
        return self._files.path(_VALUES)

    def _place_streams(self) -> str:
        """A file that says how the model runs stage by stage; empty if it does not."""
        if self._job.streams is None:
            return ""
        self._files.new(_STREAMS).write(json.dumps(self._job.streams).encode())
        return self._files.path(_STREAMS)

    def _introduce(self) -> SessionInfo:
        job = self._job
        answer = self._ask(
            {
                "model": self._place_model(),
                "threads": job.threads,
                "seed": job.seed,
                "input_ranges": {name: list(ends) for name, ends in job.input_ranges.items()},
                "shapes": {name: given for name, given in job.inputs.items() if isinstance(given, tuple)},
                "values": self._place_values(),
                "streams": self._place_streams(),
                "link": job.link,
                "deadline_s": min(job.deadline_s, 1e6),
                "epc_bytes": job.epc_bytes or 0,
                "policy": job.policy,
                "cpus": list(job.cpus or ()),
                "profile_prefix": "" if self._out is None or not job.profile else str(self._out / "profile"),
            }
        )
        for name in (_MODEL, _VALUES, _STREAMS):
            self._files.remove(name)  # the child has read it; a model may be half a gigabyte
        if answer["pager"] != self._has_epc:
            raise EnclaveFailed(
                f"the {self._runner} process started {'with' if answer['pager'] else 'without'} the pager, "
                "which was not asked for: check that no wrapper of python changes LD_PRELOAD"
            )
        return SessionInfo(
            versions=answer["versions"],
            inputs={name: (tuple(shape), dtype) for name, (shape, dtype) in answer["inputs"].items()},
            start_s=time.monotonic() - self._started_s,
        )

    # The requests.

    def sample(self, n: int) -> list[Sample]:
        """Run ``n`` inferences, each between two runs of the reference kernel."""
        rows: list[Sample] = []
        if n > 0:
            self._ask({"do": "sample", "n": n}, on_row=lambda row: rows.append(Sample(**row)))
        return rows

    def stream(self, n: int) -> list[int]:
        """Run ``n`` inferences without anything between them; when each was done, in nanoseconds of one clock."""
        done_ns: list[int] = []
        self._ask({"do": "stream", "n": n}, on_row=lambda row: done_ns.append(row["done_ns"]))
        return done_ns

    def outputs_digest(self) -> str:
        """SHA-256, in hex, over name, type, shape and bytes of each output of one inference."""
        return str(self._ask({"do": "digest"}))

    def outputs(self) -> dict[str, NDArray[np.generic]]:
        """Run one inference; its outputs by name.

        Raises:
            RuntimeRefused: one of them is not a tensor of numbers.
        """
        import numpy as np

        file = self._files.new(_OUTPUTS)
        self._ask({"do": "outputs", "path": self._files.path(_OUTPUTS)})
        with np.load(file, allow_pickle=False) as arrays:
            found = {str(name): arrays[str(index)] for index, name in enumerate(arrays["names"])}
        self._files.remove(_OUTPUTS)
        return found

    def output_types(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Run one inference; shape and element type of each output that is a tensor of numbers, by name."""
        found: dict[str, tuple[tuple[int, ...], str]] = {}

        def keep(row: dict[str, Any]) -> None:
            found[row["name"]] = (tuple(row["shape"]), row["dtype"])

        self._ask({"do": "output_types"}, on_row=keep)
        return found

    def streaming(self) -> dict[str, Any]:
        """What running stage by stage took so far; see `sectum.enclave.streaming.session.StagedSession.describe`.

        Raises:
            UsageError: the job says nothing of stages.
        """
        if self._job.streams is None:
            raise UsageError("this model does not run stage by stage: start it with a plan")
        answer: dict[str, Any] = self._ask({"do": "streaming"})
        return answer

    def memory(self) -> ProcessMemory:
        """Read the memory of the process."""
        return ProcessMemory(**self._ask({"do": "memory"}))

    def set_epc(self, epc_bytes: int | None) -> None:
        """Change the EPC of the running process.

        Raises:
            UsageError: no EPC in this runner, or the pager refuses the size.
        """
        if not self._has_epc:
            raise UsageError(f"the {self._runner} runner has no EPC to set: use softepc")
        check_epc(epc_bytes)
        self._ask({"do": "set_epc", "epc_bytes": epc_bytes or 0})

    def operator_times(self, n: int) -> list[OperatorTime]:
        """Profile ``n`` inferences; two warm up first, unless `sample` ran any.

        Raises:
            UsageError: the job was not started with ``profile=True``, or this is the second call.
        """
        from sectum.enclave.runners.runtime_profile import read_profile

        if not self._may_profile:
            raise UsageError(
                "operators are timed once in a session, and only if its job says profile=True: start another session"
            )
        self._may_profile = False
        rows: list[Sample] = []
        path = self._ask({"do": "profile", "n": max(1, n)}, on_row=lambda row: rows.append(Sample(**row)))
        return read_profile(Path(path), rows)

    def fault_trace(self) -> FaultTrace:
        """Record the page faults of one inference.

        Raises:
            UsageError: no pager in this runner.
        """
        import numpy as np

        if not self._has_epc:
            raise UsageError(f"the {self._runner} runner does not see page faults: use softepc")
        file = self._files.new(_TRACE)
        answer = self._ask({"do": "trace", "path": self._files.path(_TRACE)})
        content = file.read()
        self._files.remove(_TRACE)
        kept = answer["kept"]
        return FaultTrace(
            np.frombuffer(content, np.uint64, kept),
            np.frombuffer(content, np.uint8, kept, 8 * kept),
            answer["total"],
        )

    # How a request is sent, and what happens if no answer comes.

    def _ask(self, request: Mapping[str, Any], on_row: Callable[[dict[str, Any]], None] | None = None) -> Any:
        process = self._process
        if process is None or process.stdin is None or process.returncode is not None:
            raise UsageError(f"this {self._runner} session is closed or has ended: start another one")
        with contextlib.suppress(BrokenPipeError):  # it has died: reading the answer tells why
            process.stdin.write(json.dumps(request).encode() + b"\n")
        for line in self._lines(process):
            if not line.startswith(b"{"):  # output of a launcher, before the child starts
                continue
            answer = json.loads(line)
            if "row" in answer:
                if on_row is not None:
                    on_row(answer["row"])
            elif "unusable" in answer and self._job.streams is not None:
                raise RuntimeRefused(
                    f"the plan cannot be followed: {answer['unusable']}. Without a plan, use 'sectum measure'"
                )
            elif "unusable" in answer:
                raise RuntimeRefused(
                    f"the runtime cannot run this model: {answer['unusable']}. 'sectum predict' does not need the "
                    "runtime; to measure, export the model for the version of ONNX Runtime that is installed here"
                )
            elif "refused" in answer:
                raise UsageError(f"the {self._runner} process refused {request}: {answer['refused']}")
            else:
                return answer["result"]
        return self._report_end(process)

    def _lines(self, process: Process) -> Iterator[bytes]:
        """Give the lines that the child writes until it ends; check its deadline and memory meanwhile."""
        if process.stdout is None:
            return
        fd = process.stdout.fileno()
        poller = select.poll()  # not select(): the descriptor may be above 1024
        poller.register(fd, select.POLLIN | select.POLLHUP)
        while True:
            while b"\n" in self._buffer:
                line, self._buffer = self._buffer.split(b"\n", 1)
                yield line
            left_s = self._job.deadline_s - (time.monotonic() - self._started_s)
            if left_s <= 0:
                self._kill()
                raise EnclaveDeadline(
                    f"the {self._runner} process ran longer than its deadline of {self._job.deadline_s:g} s and was "
                    "stopped: give a longer deadline, a larger EPC or a smaller batch"
                )
            if self._job.stop is not None and self._job.stop.is_set():
                self._kill()
                raise EnclaveFailed(f"the {self._runner} process was stopped before it answered, as its caller asked")
            ready = poller.poll(1000 * min(_WATCH_S, left_s))
            self._watch_memory(process)
            if ready:
                chunk = os.read(fd, 1 << 16)
                if not chunk:
                    return
                self._buffer += chunk

    def _watch_memory(self, process: Process) -> None:
        now_s = time.monotonic()
        if now_s - self._watched_s < _WATCH_S / 2:  # after many short answers, checks would disturb the child
            return
        self._watched_s = now_s
        cap = self._job.memory_cap_bytes
        # VmRSS counts a page twice that the pager maps twice. Pss does not, but is slow: it walks the page tables.
        if _proc_bytes(process.pid, "status", "VmRSS:") <= cap:
            return
        used = _proc_bytes(process.pid, "smaps_rollup", "Pss:")
        if used <= cap:
            return
        self._kill()
        raise EnclaveFailed(
            f"the {self._runner} process held {format_bytes(used)} of memory, over its cap of "
            f"{format_bytes(cap)}, and was stopped: raise the cap, or use a smaller batch or input"
        )

    def _report_end(self, process: Process) -> NoReturn:
        self._kill(_CLOSE_S)  # it closed its output, so no answer can come; its exit code tells why
        raise ended_error(process.wait(), self._stderr_tail(), self._runner)

    def _stderr_tail(self) -> str:
        file = self._stderr.fileno()
        start = max(0, os.fstat(file).st_size - _STDERR_TAIL_BYTES)
        return os.pread(file, _STDERR_TAIL_BYTES, start).decode(errors="replace").strip()

    def _kill(self, grace_s: float = 0.0) -> None:
        """Wait ``grace_s`` for the process to end, then kill it with its own children."""
        process = self._process
        if process is None:
            return
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            # It was not waited for yet, so the process group is still its own. It may just have ended.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def close(self) -> None:
        """End the process and remove its files. May be called again."""
        process = self._process
        if process is not None:
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
            self._kill(_CLOSE_S)
            if process.stdout is not None:
                process.stdout.close()
            self._process = None
        self._files.close()
        self._own.close()
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> ChildSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _proc_bytes(pid: int, file: str, key: str) -> int:
    """Read a size from a file of the process in ``/proc``; 0 if it is not there."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) << 10
    return 0
