"""Linux system calls for which Python has no function."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from collections.abc import Callable

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 0x4000, 0x40000
MNT_DETACH = 2
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_TIMERSLACK, PR_SET_NO_NEW_PRIVS = 1, 4, 15, 29, 38

# System call numbers of x86-64. Landlock's are the same on all architectures.
_NUMBERS = {
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


def prctl(option: int, value: int) -> None:
    """Change an attribute of this process."""
    _checked(_libc.prctl(ctypes.c_int(option), *(ctypes.c_ulong(number) for number in (value, 0, 0, 0))))


unshare = _function("unshare")
mount = _function("mount")
umount2 = _function("umount2")
mlockall = _function("mlockall")
