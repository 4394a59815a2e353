"""The steps of confinement, in their order, and what came of each."""

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
class Report:
    """What confines this process.

    Attributes:
        confinement: names of what the kernel gave.
        unconfined: names of what it did not, each with the reason.
    """

    confinement: list[str] = field(default_factory=list)
    unconfined: list[str] = field(default_factory=list)

    def attempt(self, name: str, step: Callable[[], object]) -> bool:
        """Take a step and note what came of it. True when the kernel gave it."""
        try:
            step()
        except (OSError, ValueError) as error:  # ValueError: `setrlimit` beyond the hard limit
            self.refused(name, getattr(error, "strerror", None) or str(error))
            return False
        self.confinement.append(name)
        return True

    def refused(self, name: str, reason: str) -> None:
        """Note what is missing."""
        self.unconfined.append(f"{name}: {reason}"[:_WORD_CHARACTERS])


def isolate(report: Report) -> None:
    """Leave the machine's namespaces. To be called before anything starts a thread.

    The process dies with its parent from here on, its memory is not written to swap, and it cannot leave a core dump.
    """
    report.attempt("memory-locked", _lock_memory)
    report.attempt("no-core-dump", lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
    if report.attempt("user-namespace", _new_user_namespace):
        for name, flag in _NAMESPACES.items():
            report.attempt(name, lambda flag=flag: kernel.unshare(flag))  # type: ignore[misc]
    # After the namespace: a change of credentials clears it. `close_off` says it in the report.
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    # Short sleeps end on time; threads started from here on inherit it.
    kernel.prctl(kernel.PR_SET_TIMERSLACK, 1)


def close_off(report: Report, descriptors: int, *, devices: bool = False, memory_bytes: int = 0) -> None:
    """Give up the rest, for good: everything that runs later has been loaded.

    Args:
        report: of `isolate`; it is continued.
        descriptors: how many descriptors from 0 on are kept.
        devices: a device's driver lives in this process: it keeps its descriptors and may use ``ioctl``.
        memory_bytes: how much private memory the process may have; 0: no limit.
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
    # Landlock covers this thread and its children only, seccomp every thread.
    if threads == 1:
        report.attempt("landlock", landlock.restrict)
    else:
        report.refused("landlock", f"{threads} threads were running already")
    if devices:
        report.refused("no-new-descriptors", "the device's driver lives in this process")
    else:
        report.attempt("no-new-descriptors", lambda: _no_new_descriptors(descriptors))
    report.attempt("seccomp", lambda: seccomp.install([seccomp.IOCTL] if devices else []))


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF:  # it was that of the directory being listed
            raise


def _no_new_descriptors(descriptors: int) -> None:
    # No number is free: there can be no further one, wherever it might come from.
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))


def _lock_memory() -> None:
    # With a finite limit, the allocation that passes it would fail: locked without one, or not at all.
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    kernel.mlockall(kernel.MCL_CURRENT | kernel.MCL_FUTURE | kernel.MCL_ONFAULT)


def _new_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _empty_root() -> None:
    """Make an empty, read-only directory the root, and let go of the old one."""
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
