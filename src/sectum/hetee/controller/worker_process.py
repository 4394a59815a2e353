"""Worker processes. Each inherits two sockets and a pipe for its log, and nothing else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from sectum.hetee.controller.environment import CollectedProcess

_CPU_CLOCK = 2  # of a whole process: linux/posix-timers.h
_READ_BYTES = 2048
_NAMES = {number.value: number.name for number in signal.Signals}  # most real-time signals have no name


class WorkerProcess:
    """One worker. Its standard input is the link, its output goes to the log, ``--data`` names the data socket.

    Attributes:
        pid: process id.
        pidfd: becomes readable when the process has ended.
        link: the controller's end of the link socket.
        data: the host's end of the data socket; None once it was passed on.
        log: pipe with what the process writes to its standard output and error; None once it is closed.
        log_bytes: how much of that was read.

    Args:
        command: the command.
        environment: all environment variables of the process.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.data: socket.socket | None
        self.log: int | None
        with ExitStack() as ours, ExitStack() as theirs:  # close all that is not kept, also after an error
            self.link, link = socket.socketpair()
            ours.enter_context(self.link)
            theirs.enter_context(link)
            self.data, data = socket.socketpair()
            ours.enter_context(self.data)
            theirs.enter_context(data)
            self.log, log = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            ours.callback(os.close, self.log)
            theirs.callback(os.close, log)
            started = subprocess.Popen(
                [*command, "--data", str(data.fileno())],
                stdin=link.fileno(),
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=(data.fileno(),),
                process_group=0,
            )
            started.returncode = 0  # `collect` waits for it, not that object
            self.pid = self._group = started.pid
            try:
                self.pidfd = os.pidfd_open(self.pid)
            except OSError:
                self.kill()
                os.waitpid(self.pid, 0)
                raise
            ours.pop_all()
        self.log_bytes = 0

    def kill(self) -> None:
        """Kill the process."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """Have the kernel stop the process; `stopped` says when it has."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a stopped process go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        # The id of a process group is not given to another while a process of it has not been collected.
        with suppress(ProcessLookupError):
            os.killpg(self._group, number)

    def stopped(self) -> bool:
        """Whether every thread of the process has stopped since this was asked last."""
        with suppress(ChildProcessError):
            return os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG) is not None
        return False

    def processor_s(self) -> float:
        """Processor time that the process has used, in seconds, by the kernel's clock; 0 if it has ended."""
        try:
            return time.clock_gettime(~self.pid << 3 | _CPU_CLOCK)
        except OSError:
            return 0.0

    def written(self) -> str | None:
        """What the process wrote to its log, a piece at a time; empty if that is all, None at the end."""
        assert self.log is not None
        try:
            data = os.read(self.log, _READ_BYTES)
        except BlockingIOError:
            return ""
        self.log_bytes += len(data)
        return data.decode("ascii", "backslashreplace") if data else None

    def follow(self) -> bool:
        """Follow a worker that goes on in a new process, in a PID namespace of its own; False if it has ended."""
        for word in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            if int(word) != self.pid and os.getpgid(int(word)) == self._group:
                pidfd = os.pidfd_open(int(word))  # first: if it fails, nothing has changed, and this is called again
                os.waitpid(self.pid, 0)
                os.close(self.pidfd)
                self.pid, self.pidfd = int(word), pidfd
                return True
        return False

    def collect(self) -> CollectedProcess:
        """Wait for the process to end, and close its descriptors."""
        _, status, used = os.wait4(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        how = f"killed by {_NAMES.get(-code, f'signal {-code}')}" if code < 0 else f"exit code {code}"
        os.close(self.pidfd)
        self.link.close()
        if self.data is not None:
            self.data.close()
        self.close_log()
        return CollectedProcess(how, used.ru_maxrss << 10)

    def close_log(self) -> None:
        """Read nothing more of what the process writes."""
        if self.log is not None:
            os.close(self.log)
            self.log = None
