"""A seccomp filter that allows only the system calls that a running worker makes.

It is classic BPF over ``struct seccomp_data`` (linux/seccomp.h): the number is at byte 0, the architecture at byte 4,
and six arguments of 8 bytes each start at byte 16. Other calls fail with EPERM, so that a library can go on.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence

from sectum.hetee.worker.confinement.kernel import PR_SET_NAME, system_call

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
_AUDIT_ARCH_X86_64, _X32_BIT = 0xC000003E, 0x40000000
_FILTER_MODE, _ALL_THREADS = 1, 1
_PROT_EXEC, _CLONE_THREAD = 4, 0x00010000

# System calls of x86-64: input and output on existing descriptors, memory, threads, clocks, exit.
ALWAYS = {
    "read": 0, "write": 1, "close": 3, "poll": 7, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14,
    "rt_sigreturn": 15, "readv": 19, "writev": 20, "sched_yield": 24, "mremap": 25, "madvise": 28, "nanosleep": 35,
    "getpid": 39, "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "shutdown": 48, "exit": 60,
    "gettimeofday": 96, "getrusage": 98, "sigaltstack": 131, "gettid": 186, "futex": 202, "sched_getaffinity": 204,
    "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231,
    "set_robust_list": 273, "getcpu": 309, "getrandom": 318, "membarrier": 324, "rseq": 334,
}  # fmt: skip
IOCTL = 16
_MMAP, _MPROTECT, _CLONE, _PRCTL, _CLONE3 = 9, 10, 56, 157, 435

Instruction = tuple[int, int, int, int]


def _load(offset: int) -> Instruction:
    return (_LOAD, 0, 0, offset)


def _if_equal(value: int, then: Sequence[Instruction]) -> list[Instruction]:
    return [(_JUMP_EQUAL, 0, len(then), value), *then]


def program(also: Sequence[int] = ()) -> list[Instruction]:
    """The filter's instructions: (operation, jump if true, jump if false, operand).

    Args:
        also: numbers of additional system calls to allow.
    """
    allow, deny = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _EPERM)

    def argument(index: int) -> Instruction:
        return _load(16 + 8 * index)  # the low half: no flag tested here is above bit 31

    not_executable = [argument(2), (_JUMP_BITS, 1, 0, _PROT_EXEC), allow, deny]
    return [
        _load(4),
        (_JUMP_EQUAL, 1, 0, _AUDIT_ARCH_X86_64),
        (_RETURN, 0, 0, _KILL),
        _load(0),
        (_JUMP_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _KILL),
        *(line for number in (*ALWAYS.values(), *also) for line in _if_equal(number, [allow])),
        *_if_equal(_MMAP, not_executable),
        *_if_equal(_MPROTECT, not_executable),
        *_if_equal(_CLONE, [argument(0), (_JUMP_BITS, 0, 1, _CLONE_THREAD), allow, deny]),
        *_if_equal(_PRCTL, [argument(0), (_JUMP_EQUAL, 0, 1, PR_SET_NAME), allow, deny]),
        # Its flags are in memory, which a filter cannot read. With ENOSYS, libc falls back to clone.
        *_if_equal(_CLONE3, [(_RETURN, 0, 0, _ENOSYS)]),
        deny,
    ]


def install(also: Sequence[int] = ()) -> None:
    """Install the filter for all threads of this process. It needs no-new-privileges.

    Raises:
        OSError: the kernel refused.
    """
    code = b"".join(struct.pack("<HBBI", *line) for line in program(also))
    lines = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("<H6xQ", len(code) // 8, ctypes.addressof(lines))
    system_call("seccomp", _FILTER_MODE, _ALL_THREADS, ctypes.create_string_buffer(header, len(header)))
