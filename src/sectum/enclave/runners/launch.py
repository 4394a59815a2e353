"""How a runner's process is started, and what its exit code means."""

from __future__ import annotations

import os
import signal
import site
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

from sectum.errors import EnclaveError, EnclaveFailed, EnclaveTampered, EnclaveUnavailable


class LinkEnded(EnclaveFailed):
    """A process ended because the enclave at the other end of a link, or the host between them, is gone."""


_PAGER_EXITS: Mapping[int, type[EnclaveError]] = {
    85: LinkEnded,  # child.py
    86: EnclaveTampered,
    87: EnclaveUnavailable,
    88: EnclaveUnavailable,
    89: EnclaveFailed,
}  # softepc.h
_THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
)  # fmt: skip


class Process(Protocol):
    """The process of a session, as `subprocess.Popen` gives it."""

    @property
    def pid(self) -> int:
        """Process number; the process leads a process group of its own."""
        ...

    @property
    def returncode(self) -> int | None:
        """Exit code; None until `wait` has seen the end, negative for a signal."""
        ...

    @property
    def stdin(self) -> IO[bytes] | None:
        """Standard input of the process, unbuffered."""
        ...

    @property
    def stdout(self) -> IO[bytes] | None:
        """Standard output of the process, unbuffered."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code.

        Raises:
            subprocess.TimeoutExpired: it did not end in time.
        """
        ...


Launch = Callable[[Path, IO[bytes]], Process]
"""Starts a process in a folder, with the file as its standard error."""


def program(command: Sequence[str], environment: Mapping[str, str], files: Sequence[int] = ()) -> Launch:
    """Make a launch of this command, with exactly this environment, and these open files beside the standard ones."""

    def launch(folder: Path, stderr: IO[bytes]) -> Process:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=dict(environment),
            cwd=folder,
            bufsize=0,
            pass_fds=files,
            start_new_session=True,  # so that its own children can be killed with it
        )

    return launch


def child_command() -> list[str]:
    """Return the child's command line; ``-P`` keeps the current folder off its module path."""
    return [sys.executable, "-P", "-m", "sectum.enclave.runners.child"]


def child_environment() -> dict[str, str]:
    """Return this environment without the variables that change a measurement, with one thread for each library.

    The package root is added to the module path if the interpreter would not find it otherwise.
    """
    environment = {
        key: value
        for key, value in os.environ.items()
        if key != "LD_PRELOAD" and not key.startswith(("SOFTEPC_", "MALLOC_", "OMP_", "KMP_", "GOMP_", "ORT_"))
    }
    environment.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    # OpenBLAS's threads spin for 27 ms after a GEMM, into the next inference. This makes it 2**4 cycles.
    environment["OPENBLAS_THREAD_TIMEOUT"] = "4"
    root = str(Path(__file__).resolve().parents[3])
    named = environment.get("PYTHONPATH", "").split(os.pathsep)
    folders = [str(Path(folder).absolute()) for folder in named if folder]  # the child starts in another folder
    if root not in (*site.getsitepackages(), site.getusersitepackages()):
        folders.insert(0, root)
    if folders:
        environment["PYTHONPATH"] = os.pathsep.join(folders)
    return environment


def ended_error(code: int, said: str, runner: str) -> EnclaveError:
    """Return the error for a process that ended when it should have answered.

    Args:
        code: exit code; negative for a signal, 86 to 89 from the pager (softepc.h).
        said: the last part of its standard error.
        runner: the runner's name.
    """
    if code in _PAGER_EXITS:
        return _PAGER_EXITS[code](said or f"the pager ended the {runner} process with exit code {code} and no message")
    why = f"ended with exit code {code}"
    if code < 0:
        why = f"was killed by {signal.Signals(-code).name}"
        if -code == signal.SIGKILL:
            why += " (by the system, perhaps because memory ran out: try a smaller batch)"
    return EnclaveFailed(f"the {runner} process {why} before it answered. Its last messages: {said or 'none'}")
