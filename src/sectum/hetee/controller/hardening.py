"""Protects the controller's memory, as far as the kernel allows."""

from __future__ import annotations

import ctypes
import os
import resource
import signal

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4


def harden() -> dict[str, bool]:
    """Forbid core dumps, access by other processes, and swapping. Returns which of these the kernel granted."""
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    got = {"undumpable": libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0, "locked": False}
    # Under a limit on locked memory, MCL_FUTURE would make later allocations fail.
    if os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        got["locked"] = libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0
    return got


def end_with_parent(parent: int) -> None:
    """Have the kernel send SIGTERM to this process when its parent, which has this process id, ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # the parent ended before prctl
        signal.raise_signal(signal.SIGTERM)
