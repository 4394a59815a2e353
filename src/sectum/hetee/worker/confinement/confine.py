"""The steps of confinement in their order, with a report of which succeeded."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sectum.hetee.worker.confinement import kernel, landlock, seccomp

_WORD_CHARACTERS = 64
_CAPABILITY_VERSION_3 = 0x20080522
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


def isolate(report: ConfinementReport) -> None:
    """Leave the machine's namespaces. Call it before any thread is started.

    From here on the process dies with its parent, its memory is not swapped, and it leaves no core dump.
    """
    report.attempt("memory-locked", _lock_memory)
    report.attempt("no-core-dump", lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
    if report.attempt("user-namespace", _new_user_namespace):
        for name, flag in _NAMESPACES.items():
            report.attempt(name, lambda flag=flag: kernel.unshare(flag))  # type: ignore[misc]
    # After the namespaces, because a change of credentials clears it. `close_off` repeats and reports it.
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    # Short sleeps end on time. Threads started later inherit this.
    kernel.prctl(kernel.PR_SET_TIMERSLACK, 1)


def close_off(report: ConfinementReport, descriptors: int, *, devices: bool = False, memory_bytes: int = 0) -> None:
    """Give up everything else for good. Call it when all code is loaded.

    Args:
        report: the report of `isolate`, to which this adds.
        descriptors: number of descriptors, from 0 on, that are kept.
        devices: whether a device driver runs in this process; then it keeps its descriptors and may use ``ioctl``.
        memory_bytes: limit on private memory; 0 for no limit.
    """
    threads = len(list(Path("/proc/self/task").iterdir()))
    for path in [] if devices else list(Path("/proc/self/fd").iterdir()):
        if int(path.name) >= descriptors:
            _close(int(path.name))
    if memory_bytes:
        report.attempt("memory-limit", lambda: resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes,) * 2))
    if "mount-namespace" in report.confinement:
        report.attempt("empty-root", _empty_root)
    report.attempt("no-capabilities", _drop_capabilities)
    report.attempt("no-new-privileges", lambda: kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1))
    report.attempt("not-dumpable", lambda: kernel.prctl(kernel.PR_SET_DUMPABLE, 0))
    report.attempt("dies-with-parent", lambda: kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL))
    # Landlock covers only this thread and its children; seccomp covers all threads.
    if threads == 1:
        report.attempt("landlock", landlock.restrict)
    else:
        report.refused("landlock", f"{threads} threads were running already")
    if devices:
        report.refused("no-new-descriptors", "a device driver runs in this process")
    else:
        report.attempt("no-new-descriptors", lambda: _no_new_descriptors(descriptors))
    report.attempt("seccomp", lambda: seccomp.install([seccomp.IOCTL] if devices else []))


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF:  # the descriptor of the directory listing
            raise


def _no_new_descriptors(descriptors: int) -> None:
    # No number is free, so no further descriptor can be opened or received.
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))


def _lock_memory() -> None:
    # Under a finite limit, an allocation beyond it would fail, so lock only without a limit.
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    kernel.mlockall(kernel.MCL_CURRENT | kernel.MCL_FUTURE | kernel.MCL_ONFAULT)


def _new_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _empty_root() -> None:
    """Make an empty, read-only directory the root, and unmount the old root."""
    kernel.mount(None, b"/", None, kernel.MS_REC | kernel.MS_PRIVATE, None)
    flags = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount(b"none", b"/proc", b"tmpfs", flags, b"size=4k,mode=555")
    os.chdir("/proc")
    kernel.system_call("pivot_root", b".", b".")
    kernel.umount2(b".", kernel.MNT_DETACH)
    os.chdir("/")


def _drop_capabilities() -> None:
    header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
    kernel.system_call("capset", ctypes.create_string_buffer(header, len(header)), ctypes.create_string_buffer(24))
