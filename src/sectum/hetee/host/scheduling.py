"""How Linux shares a processor between the host and whoever it forwards for."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

_SLICE_NS = 100_000  # the least that Linux gives
_SET_ATTRIBUTES = {"x86_64": 314, "aarch64": 274}  # sched_setattr, for which most versions of libc have no function


def ask_for_short_turns() -> bool:
    """Ask for short turns on the processor, and so for early ones, in this thread and those that it starts.

    Forwarding takes microseconds. With the usual turns of a millisecond or more, a host that wakes up on the processor
    of whoever sent to it waits until that has sealed and sent all. Linux takes the wish since version 6.12, and gives
    nobody more time for it than before.

    Returns:
        Whether Linux took it; versions before 6.12 say so, too, and do nothing.
    """
    number = _SET_ATTRIBUTES.get(platform.machine())
    if number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    # struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period.
    attributes = struct.pack("=IIQiIQQQ", 48, os.SCHED_OTHER, 0, nice, 0, _SLICE_NS, 0, 0)
    return not ctypes.CDLL(None).syscall(
        ctypes.c_long(number), ctypes.c_long(0), ctypes.create_string_buffer(attributes, 48), ctypes.c_long(0)
    )
