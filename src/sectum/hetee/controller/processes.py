"""Worker processes: started with two sockets and nothing else, watched, killed, collected."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sectum.hetee.controller.outside import Started

WORKER = (sys.executable, "-P", "-m", "sectum.hetee.worker")
LINK_FD, DATA_FD = 3, 4
_ABOVE = 10  # descriptors that a worker finds at fixed numbers are moved out of the way first
# What a worker is told of this environment; nothing else of it is its business.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "CUDA_VISIBLE_DEVICES")


def _keep_to_itself() -> None:
    """Let no descriptor be inherited but the standard ones, also not what this process itself inherited."""
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the listing itself
            if int(descriptor.name) > 2:
                os.set_inheritable(int(descriptor.name), False)


class WorkerProcess:
    """One worker.

    Attributes:
        pid: its process.
        pidfd: readable when it has ended.
        link: this end of the socket to it.
        data: the host's end of its data socket; None once it was passed on.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.data: socket.socket | None
        self.data, data = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        _keep_to_itself()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for end in (theirs, data)]
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.pid = os.posix_spawn(
                command[0],
                list(command),
                {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, null, 0),
                    (os.POSIX_SPAWN_DUP2, 2, 1),
                    (os.POSIX_SPAWN_DUP2, ends[0], LINK_FD),
                    (os.POSIX_SPAWN_DUP2, ends[1], DATA_FD),
                ],
                setpgroup=0,
                setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGPIPE],
                setsigmask=[],
            )
        except OSError:
            self.link.close()
            self.data.close()
            raise
        finally:
            for end in (*ends, null):
                os.close(end)
            theirs.close()
            data.close()
        self.pidfd = os.pidfd_open(self.pid)
        self.link.setblocking(False)

    def started(self, measurement: bytes) -> Started:
        """What the controller is told of it."""
        return Started(self.pid, measurement)

    def kill(self) -> None:
        """Kill it, by its descriptor: never another process that got its number."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def collect(self) -> None:
        """Take it from the kernel when it has ended, and close what is left of it."""
        os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        os.close(self.pidfd)
        self.link.close()
        if self.data is not None:
            self.data.close()
