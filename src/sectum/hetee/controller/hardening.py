"""What keeps the controller's memory to itself, as far as the kernel gives it."""

from __future__ import annotations

import ctypes
import os
import resource
import signal

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4


def harden() -> dict[str, bool]:
    """No core dumps, no other process that looks in, no pages in swap. Gives what was got of that."""
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    got = {"undumpable": libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0, "locked": False}
    # With a limit on locked memory, locking all of the future would let allocations fail later.
    if os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        got["locked"] = libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0
    return got


def end_with_parent(parent: int) -> None:
    """Have the kernel send SIGTERM when the process that started this one, of this number, ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel was asked
        signal.raise_signal(signal.SIGTERM)
