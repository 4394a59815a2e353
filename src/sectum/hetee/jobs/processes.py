"""The processes of a job: the one that was started, and all that descend from it, even if they detached themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sectum.hetee.confinement import kernel

_PR_SET_CHILD_SUBREAPER = 36
_STANDARD_ERROR = 2


def adopt_orphans() -> None:
    """Become the parent of each process that descends from this one and whose parent ends.

    Raises:
        OSError: the kernel refuses it.
    """
    kernel.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def variables(names: Sequence[str]) -> dict[str, str]:
    """The environment variables that tell a job which accelerators it has; it sees no other GPU through CUDA."""
    gpus = [name.partition(":")[2] for name in names if name.startswith("cuda:")]
    return {
        "SECTUM_ACCELERATORS": ",".join(names),
        "CUDA_VISIBLE_DEVICES": ",".join(gpus),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # the order of /dev/nvidiaN
    }


def _end_with_parent() -> None:
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)


class JobProcesses:
    """A job that runs. This process must have no other children, and must have called `adopt_orphans`.

    Args:
        command: program and arguments.
        environment: all environment variables.
        output_to_error: whether the job's standard output goes to this process's standard error.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], *, output_to_error: bool) -> None:
        assert threading.active_count() == 1, "a fork with several threads"
        # A session of its own: Ctrl-C reaches this program only, which then ends the job in order.
        process = subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=_STANDARD_ERROR if output_to_error else None,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # safe: there is one thread
        )
        self.pid = process.pid
        self.exit_code: int | None = None
        process.returncode = 0  # it is collected here, not by `subprocess`

    def ask_to_end(self) -> None:
        """Send SIGTERM to the process group of the job."""
        if self.exit_code is None:  # its process is not collected, so the id is its own
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to each child. Their children become this process's, for the next call."""
        for word in Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split():
            with suppress(ProcessLookupError, PermissionError):  # a child is not collected, so the id is its own
                os.kill(int(word), signal.SIGKILL)

    def none_left(self) -> bool:
        """Collect what has ended; returns whether no process of the job is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self.pid:
                code = os.waitstatus_to_exitcode(status)
                self.exit_code = code if code >= 0 else 128 - code
