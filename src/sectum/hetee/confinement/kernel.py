"""Linux system calls for which Python has no function."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, CLONE_PARENT = 0x10000000, 0x20000000, 0x40000000, 0x8000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 0x1000
MS_MOVE, MS_REC, MS_PRIVATE = 0x2000, 0x4000, 0x40000
MNT_DETACH = 2
_CAPABILITY_VERSION_3 = 0x20080522
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME, PR_SET_TIMERSLACK = 1, 4, 8, 15, 29
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 38, 47, 2
CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_IPC_LOCK = 5, 6, 7, 14

# System call numbers of x86-64. Landlock's are the same on all architectures.
_NUMBERS = {
    "clone": 56,
    "capset": 126,
    "pivot_root": 155,
    "seccomp": 317,
    "landlock_create_ruleset": 444,
    "landlock_restrict_self": 446,
}

_libc = ctypes.CDLL(None, use_errno=True)


def is_x86_64() -> bool:
    """Whether this machine uses the system call numbers that this package knows."""
    return platform.machine() == "x86_64"


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _function(name: str) -> Callable[..., int]:
    function = getattr(_libc, name)
    function.restype = ctypes.c_long

    def call(*arguments: object) -> int:
        return _checked(function(*arguments))

    return call


def _argument(value: object) -> object:
    # ctypes would pass an int with 32 bits.
    return ctypes.c_long(value) if isinstance(value, int) else value


def system_call(name: str, *arguments: object) -> int:
    """Make a system call by number.

    Raises:
        OSError: the kernel refused, or the machine is not x86-64.
    """
    if not is_x86_64():
        raise OSError(errno.ENOSYS, f"needs x86-64, this is {platform.machine()}")
    return _checked(_libc.syscall(ctypes.c_long(_NUMBERS[name]), *map(_argument, arguments)))


def fork_as_sibling() -> int:
    """Fork a process whose parent is this process's parent; 0 in the new process, its id in this one.

    Call it before any thread is started.
    """
    return system_call("clone", CLONE_PARENT | signal.SIGCHLD, None, None, None, None)


def prctl(option: int, value: int, more: int = 0) -> None:
    """Change an attribute of this process."""
    _checked(_libc.prctl(ctypes.c_int(option), *(ctypes.c_ulong(number) for number in (value, more, 0, 0))))


def set_capabilities(kept: Iterable[int] = ()) -> None:
    """Give up all capabilities of this process but these, which programs that it executes also get."""
    mask = sum(1 << capability for capability in kept)
    header = struct.pack("<Ii", _CAPABILITY_VERSION_3, 0)
    data = struct.pack("<IIIIII", mask, mask, mask, 0, 0, 0)
    system_call(
        "capset", ctypes.create_string_buffer(header, len(header)), ctypes.create_string_buffer(data, len(data))
    )


def has_capability(capability: int) -> bool:
    """Whether this process has a capability now."""
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> capability & 1)


unshare = _function("unshare")
mount = _function("mount")
umount2 = _function("umount2")
mlockall = _function("mlockall")
