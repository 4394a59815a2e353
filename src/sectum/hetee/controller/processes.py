"""Worker processes. Each inherits two sockets and pipes as standard descriptors, and nothing else."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from sectum.hetee.controller.environment import CollectedProcess, StartedProcess
from sectum.hetee.role_log import LogReader

LINK_FD, DATA_FD = 3, 4
_ABOVE = 10  # sockets are first moved above the fixed numbers that the worker expects
_CPU_CLOCK = 2  # of a whole process: linux/posix-timers.h


def _forbid_inheritance() -> None:
    """Make every descriptor but the standard ones non-inheritable, including those that this process inherited."""
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the descriptor of this listing is closed already
            if int(descriptor.name) > 2:
                os.set_inheritable(int(descriptor.name), False)


class WorkerProcess:
    """One worker.

    Attributes:
        pid: process id.
        pidfd: becomes readable when the process has ended.
        link: the controller's end of the link socket.
        data: the host's end of the data socket; None once it was passed on.
        log: what the process writes to its standard output and error; None once it is closed.

    Args:
        command: the command.
        environment: all environment variables of the process.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.data: socket.socket | None
        self.data, data = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ExitStack() as stack:  # closes all that is not kept, also when no descriptor is left for the next one
            for end in (theirs, data):
                stack.callback(end.close)
            _forbid_inheritance()
            ends = []
            for end in (theirs, data):
                ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _ABOVE))
                stack.callback(os.close, ends[-1])
            null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, null)
            read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            stack.callback(os.close, write)
            try:
                self.pid = os.posix_spawn(
                    command[0],
                    list(command),
                    dict(environment),
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, null, 0),
                        (os.POSIX_SPAWN_DUP2, write, 1),
                        (os.POSIX_SPAWN_DUP2, write, 2),
                        (os.POSIX_SPAWN_DUP2, ends[0], LINK_FD),
                        (os.POSIX_SPAWN_DUP2, ends[1], DATA_FD),
                    ],
                    setpgroup=0,
                    setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGPIPE],
                    setsigmask=[],
                )
            except OSError:
                os.close(read)
                raise
            try:
                self.pidfd = os.pidfd_open(self.pid)
            except OSError:
                os.close(read)
                os.kill(self.pid, signal.SIGKILL)  # not collected yet, so its id is its own
                os.waitpid(self.pid, 0)
                raise
        self._group = self.pid
        self.link.setblocking(False)
        self.log: LogReader | None = LogReader(read)

    def started(self, measurement: bytes) -> StartedProcess:
        """What `Environment.start` returns for this process."""
        return StartedProcess(self.pid, measurement)

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

    def follow(self) -> bool:
        """Follow a worker that goes on in a new process, in a PID namespace of its own; False if it has ended."""
        for word in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            if int(word) != self.pid and os.getpgid(int(word)) == self._group:
                os.waitpid(self.pid, 0)
                os.close(self.pidfd)
                self.pid = int(word)
                self.pidfd = os.pidfd_open(self.pid)
                return True
        return False

    def collect(self) -> CollectedProcess:
        """Wait for the process to end, and close its descriptors."""
        _, status, used = os.wait4(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        os.close(self.pidfd)
        self.link.close()
        if self.data is not None:
            self.data.close()
        self.close_log()
        return CollectedProcess(how, used.ru_maxrss << 10)

    def close_log(self) -> None:
        """Read nothing more of what the process writes."""
        if self.log is not None:
            self.log.close()
            self.log = None
