"""The steps of confinement in their order, with a report of which succeeded."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sectum.hetee.confinement import kernel, landlock, seccomp
from sectum.hetee.confinement.users import FIRST, become

_WORD_CHARACTERS = 64
# All that is in the root of a controller with a root of its own.
PRIVATE_ROOT = frozenset({"controller", "worker", "caches", "endorsement", "reference", "start", "run", "proc", "dev"})
_NAMESPACES = {
    "mount-namespace": kernel.CLONE_NEWNS,
    "network-namespace": kernel.CLONE_NEWNET,
    "ipc-namespace": kernel.CLONE_NEWIPC,
    "uts-namespace": kernel.CLONE_NEWUTS,
}


@dataclass
class ConfinementReport:
    """Which steps of confinement succeeded.

    Attributes:
        confinement: names of the steps that succeeded.
        unconfined: names of the steps that failed, each with the reason.
    """

    confinement: list[str] = field(default_factory=list)
    unconfined: list[str] = field(default_factory=list)

    def attempt(self, name: str, step: Callable[[], object]) -> bool:
        """Run a step and record its outcome; returns True if it succeeded."""
        try:
            step()
        except (OSError, ValueError) as error:  # ValueError: `setrlimit` beyond the hard limit
            self.refused(name, getattr(error, "strerror", None) or str(error))
            return False
        self.confinement.append(name)
        return True

    def refused(self, name: str, reason: str) -> None:
        """Record a step that failed."""
        self.unconfined.append(f"{name}: {reason}"[:_WORD_CHARACTERS])


def isolate(report: ConfinementReport, *, user: int = 0, new_process: bool = False, nodes: Iterable[Path] = ()) -> None:
    """Leave the machine's namespaces. Call it before any thread is started.

    From here on the process dies with its parent, its memory is not swapped, and it leaves no core dump.

    Args:
        report: gets the outcome of each step.
        user: user id to take first; 0 to keep the user.
        new_process: whether to go on in a new process, with a PID namespace of its own. This one ends then; the parent
            of both is the same.
        nodes: device nodes that stay reachable in ``/dev``; no other does, but ``null`` and ``urandom``.
    """
    report.attempt("memory-locked", _lock_memory)
    report.attempt("no-core-dump", lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
    if user:
        report.attempt("own-user", lambda: become(user))
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # until `close_off`: who is not cannot write its own uid_map
    if report.attempt("user-namespace", new_user_namespace):
        for name, flag in _NAMESPACES.items():
            report.attempt(name, lambda flag=flag: kernel.unshare(flag))  # type: ignore[misc]
        if "mount-namespace" in report.confinement:
            report.attempt("own-devices", lambda: _own_devices(nodes))
        if new_process:
            report.attempt("pid-namespace", _go_on_in_new_pid_namespace)
            if "memory-locked" in report.confinement:  # the new process has not inherited it
                _lock_memory()
    # After the namespaces, because a change of credentials clears it. `close_off` repeats and reports it.
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    # Short sleeps end on time. Threads started later inherit this.
    kernel.prctl(kernel.PR_SET_TIMERSLACK, 1)


def close_off(
    report: ConfinementReport, descriptors: int, *, devices: bool = False, memory_bytes: int = 0, threads: int = 0
) -> None:
    """Give up everything else for good. Call it when all code is loaded.

    Args:
        report: the report of `isolate`, to which this adds.
        descriptors: number of descriptors, from 0 on, that are kept.
        devices: whether a device driver runs in this process; then it keeps its descriptors and may use ``ioctl``.
        memory_bytes: limit on private memory; 0 for no limit.
        threads: largest number of threads; 0 for no limit.
    """
    running = len(list(Path("/proc/self/task").iterdir()))
    for path in [] if devices else list(Path("/proc/self/fd").iterdir()):
        if int(path.name) >= descriptors:
            _close(int(path.name))
    if memory_bytes:
        report.attempt("memory-limit", lambda: resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes,) * 2))
    report.attempt("no-file-growth", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)))
    if threads:
        report.attempt("thread-limit", lambda: resource.setrlimit(resource.RLIMIT_NPROC, (threads, threads)))
    if "mount-namespace" in report.confinement:
        report.attempt("empty-root", _empty_root)
    report.attempt("no-capabilities", kernel.set_capabilities)
    report.attempt("no-new-privileges", lambda: kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1))
    report.attempt("not-dumpable", lambda: kernel.prctl(kernel.PR_SET_DUMPABLE, 0))
    report.attempt("dies-with-parent", lambda: kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL))
    forget_files(report, running)
    if devices:
        report.refused("no-new-descriptors", "a device driver runs in this process")
    else:
        report.attempt("no-new-descriptors", lambda: _no_new_descriptors(descriptors))
    report.attempt("seccomp", lambda: seccomp.install(seccomp.program([seccomp.IOCTL] if devices else [])))


def confine_controller(report: ConfinementReport, host: int, *, debug: bool = False) -> None:
    """Confine a controller, which has its own user or user namespace, and its own root, already if it may.

    Args:
        report: gets the outcome of each step.
        host: user id of the host; the controller's own id if they are the same.
        debug: whether other processes of this user may look into this one.
    """
    report.attempt("memory-locked", lambda: _lock_memory(kernel.has_capability(kernel.CAP_IPC_LOCK)))
    report.attempt("no-core-dump", lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
    report.attempt("no-new-privileges", lambda: kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1))
    if debug:
        report.refused("not-dumpable", "the controller was started for debugging")
    else:
        report.attempt("not-dumpable", lambda: kernel.prctl(kernel.PR_SET_DUMPABLE, 0))
    report.attempt("apart-from-host", lambda: _is_apart(host))
    report.attempt("private-root", _has_private_root)
    report.attempt("seccomp", lambda: seccomp.install(seccomp.program_of_controller(FIRST)))


def _is_apart(host: int) -> None:
    if os.geteuid() not in (0, host):
        return
    try:  # the launcher's namespace is the host's
        apart = Path("/proc/self/ns/user").readlink() != Path(f"/proc/{os.getppid()}/ns/user").readlink()
    except PermissionError:  # it has rights that this process has not
        apart = Path("/proc/self/uid_map").read_text().split()[2:] == ["1"]
    if not apart:
        raise OSError(errno.EPERM, "the host has the same user")


def _has_private_root() -> None:
    if not {path.name for path in Path("/").iterdir()} <= PRIVATE_ROOT:
        raise OSError(errno.EPERM, "the machine's files are reachable")


def forget_files(report: ConfinementReport, threads: int) -> None:
    """Give up all access to files with Landlock, which has to be done while one thread runs."""
    # Landlock covers only this thread and its children; seccomp covers all threads.
    if threads == 1:
        report.attempt("landlock", landlock.restrict)
    else:
        report.refused("landlock", f"{threads} threads were running already")


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF:  # the descriptor of the directory listing
            raise


def _no_new_descriptors(descriptors: int) -> None:
    # No number is free, so no further descriptor can be opened or received.
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))


def _lock_memory(capable: bool = False) -> None:
    """Keep this process's memory from being swapped; ``capable``: CAP_IPC_LOCK is kept, which no limit concerns."""
    # Under a finite limit, an allocation beyond it would fail, so lock only without a limit.
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    if not capable and resource.getrlimit(resource.RLIMIT_MEMLOCK) != unlimited:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)
    kernel.mlockall(kernel.MCL_CURRENT | kernel.MCL_FUTURE | kernel.MCL_ONFAULT)


def new_user_namespace() -> None:
    """Enter a new user namespace, in which this user and this group are the only ones."""
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _go_on_in_new_pid_namespace() -> None:
    kernel.unshare(kernel.CLONE_NEWPID)  # for the processes that this one makes
    if kernel.fork_as_sibling():
        os._exit(0)


def _own_devices(nodes: Iterable[Path]) -> None:
    """Put a folder with these nodes only in place of ``/dev``."""
    kernel.mount(None, b"/", None, kernel.MS_REC | kernel.MS_PRIVATE, None)
    made = Path("/proc")  # a folder that exists, while the new one is filled
    kernel.mount(b"none", bytes(made), b"tmpfs", kernel.MS_NOSUID | kernel.MS_NOEXEC, b"size=64k,mode=755")
    for node in (Path("/dev/null"), Path("/dev/urandom"), *nodes):
        (made / node.name).touch()
        kernel.mount(bytes(node), bytes(made / node.name), None, kernel.MS_BIND, None)
    kernel.mount(bytes(made), b"/dev", None, kernel.MS_MOVE, None)


def _empty_root() -> None:
    """Make an empty, read-only directory the root, and unmount the old root."""
    kernel.mount(None, b"/", None, kernel.MS_REC | kernel.MS_PRIVATE, None)
    flags = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount(b"none", b"/proc", b"tmpfs", flags, b"size=4k,mode=555")
    os.chdir("/proc")
    kernel.system_call("pivot_root", b".", b".")
    kernel.umount2(b".", kernel.MNT_DETACH)
    os.chdir("/")
