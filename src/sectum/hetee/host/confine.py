"""Confines a host."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

from sectum.hetee.confinement import kernel, seccomp
from sectum.hetee.confinement.confine import ConfinementReport, forget_files
from sectum.hetee.confinement.users import become

# What a host needs beside `seccomp.ALWAYS`: connections, descriptors from the controller, moving bytes between them.
_CALLS = {
    "close": 3, "fstat": 5, "lseek": 8, "ioctl": seccomp.IOCTL, "select": 23, "connect": 42, "sendmsg": 46,
    "recvmsg": 47, "getsockname": 51, "getpeername": 52, "socketpair": 53, "setsockopt": 54, "getsockopt": 55,
    "fcntl": 72, "getppid": 110, "epoll_wait": 232, "epoll_ctl": 233, "openat": 257, "splice": 275, "accept4": 288,
    "epoll_create1": 291, "pipe2": 293,
}  # fmt: skip


def confine_host(report: ConfinementReport, *, user: int = 0, with_parent: bool = False) -> None:
    """Confine a host: no files, no new network sockets, no other processes. Call it before any thread is started.

    Args:
        report: gets the outcome of each step.
        user: user id to take first; 0 to keep the user.
        with_parent: whether the kernel is to end this process when its parent ends.
    """
    if user:
        report.attempt("own-user", lambda: become(user))
    if with_parent:  # a change of credentials clears it
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGTERM)
    report.attempt("no-core-dump", lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
    report.attempt("no-file-growth", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)))
    report.attempt("no-capabilities", kernel.set_capabilities)
    report.attempt("no-new-privileges", lambda: kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1))
    report.attempt("not-dumpable", lambda: kernel.prctl(kernel.PR_SET_DUMPABLE, 0))
    forget_files(report, len(list(Path("/proc/self/task").iterdir())))
    program = seccomp.program(list(_CALLS.values()), seccomp.UNIX_SOCKETS_ONLY)
    report.attempt("seccomp", lambda: seccomp.install(program))
