"""What a runner's process is started with, and what its end means."""

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

_PAGER_EXITS: Mapping[int, type[EnclaveError]] = {
    86: EnclaveTampered,
    87: EnclaveUnavailable,
    88: EnclaveUnavailable,
    89: EnclaveFailed,
}  # softepc.h
_THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
)  # fmt: skip


class Process(Protocol):
    """What a session needs of the process that it talks to; `subprocess.Popen` has it."""

    @property
    def pid(self) -> int:
        """Of the process, which leads a process group of its own."""
        ...

    @property
    def returncode(self) -> int | None:
        """None until `wait` has seen the end; negative for a signal."""
        ...

    @property
    def stdin(self) -> IO[bytes] | None:
        """Unbuffered."""
        ...

    @property
    def stdout(self) -> IO[bytes] | None:
        """Unbuffered."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code.

        Raises:
            subprocess.TimeoutExpired: it did not end in time.
        """
        ...


Launch = Callable[[Path, IO[bytes]], Process]
"""Starts a process in a folder, its standard error going to the file given."""


def program(command: Sequence[str], environment: Mapping[str, str]) -> Launch:
    """Launch a command with this environment and no other."""

    def launch(folder: Path, stderr: IO[bytes]) -> Process:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=dict(environment),
            cwd=folder,
            bufsize=0,
            start_new_session=True,  # so that what it starts itself can be killed with it
        )

    return launch


def child_command() -> list[str]:
    """Return the child's command line; ``-P`` keeps the current folder off its module path."""
    return [sys.executable, "-P", "-m", "sectum.enclave.runners.child"]


def child_environment() -> dict[str, str]:
    """Return this environment, less what would change the measurement, plus the thread counts.

    The package root is put on the module path where the interpreter would not find it by itself.
    """
    environment = {
        key: value
        for key, value in os.environ.items()
        if key != "LD_PRELOAD" and not key.startswith(("SOFTEPC_", "MALLOC_", "OMP_", "KMP_", "GOMP_", "ORT_"))
    }
    environment.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    # OpenBLAS's threads spin for 27 ms after a product, into the inference that follows: 2**4 cycles instead.
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
        code: its exit code; negative for a signal, 86 to 89 from the pager (softepc.h).
        said: the end of its standard error.
        runner: the runner's name.
    """
    if code in _PAGER_EXITS:
        return _PAGER_EXITS[code](said or f"the pager ended the {runner} process with exit code {code}, saying nothing")
    why = f"ended by itself with exit code {code}"
    if code < 0:
        why = f"was killed by {signal.Signals(-code).name}"
        if -code == signal.SIGKILL:
            why += " (by this machine, perhaps for want of memory: try a smaller batch)"
    return EnclaveFailed(f"the {runner} process {why} before it answered. Its last words: {said or 'none'}")
