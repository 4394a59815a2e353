"""The host requests short time slices from Linux, and nothing else."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

_GET_ATTRIBUTES = {"x86_64": 315, "aarch64": 275}
_ASK = """
import os
from sectum.hetee.host.scheduling import request_short_time_slices
os.nice(3)
taken = request_short_time_slices()
print(taken, flush=True)
input()
"""


def _attributes(pid: int) -> tuple[int, int, int]:
    """Scheduling policy, niceness and requested time slice in nanoseconds of a process."""
    memory = ctypes.create_string_buffer(48)
    number = _GET_ATTRIBUTES[platform.machine()]
    arguments = (ctypes.c_long(number), ctypes.c_long(pid), memory, ctypes.c_long(48), ctypes.c_long(0))
    assert ctypes.CDLL(None).syscall(*arguments) == 0
    _, policy, _, nice, _, runtime_ns, _, _ = struct.unpack("=IIQiIQQQ", memory.raw)
    return policy, nice, runtime_ns


@pytest.mark.skipif(platform.machine() not in _GET_ATTRIBUTES, reason="the numbers of its system calls are not known")
def test_short_turns_change_neither_policy_nor_niceness() -> None:
    """Policy and niceness stay as they are, and Linux 6.12 or newer has the requested time slice."""
    asking = subprocess.Popen([sys.executable, "-c", _ASK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with asking:
        assert asking.stdout is not None
        assert asking.stdout.readline() == "True\n"
        policy, nice, runtime_ns = _attributes(asking.pid)
        asking.communicate("\n")
    assert (policy, nice) == (os.SCHED_OTHER, os.getpriority(os.PRIO_PROCESS, 0) + 3)
    version = tuple(map(int, platform.release().split(".")[:2]))
    if version >= (6, 12):
        assert runtime_ns == 100_000
