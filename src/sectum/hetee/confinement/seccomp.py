"""Seccomp filters: a worker and a host may make only the system calls that they need, a controller all but some.

It is classic BPF over ``struct seccomp_data`` (linux/seccomp.h): the number is at byte 0, the architecture at byte 4,
and six arguments of 8 bytes each start at byte 16. Other calls fail with EPERM, so that a library can go on.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence

from sectum.hetee.confinement.kernel import PR_SET_NAME, system_call

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
_AUDIT_ARCH_X86_64, _X32_BIT = 0xC000003E, 0x40000000
_FILTER_MODE, _ALL_THREADS = 1, 1
_PROT_EXEC, _CLONE_THREAD = 4, 0x00010000

# System calls of x86-64: input and output on existing descriptors, memory, threads, clocks, exit.
ALWAYS = {
    "read": 0, "write": 1, "poll": 7, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14,
    "rt_sigreturn": 15, "readv": 19, "writev": 20, "sched_yield": 24, "mremap": 25, "madvise": 28, "nanosleep": 35,
    "getpid": 39, "sendto": 44, "recvfrom": 45, "shutdown": 48, "exit": 60,
    "gettimeofday": 96, "getrusage": 98, "sigaltstack": 131, "gettid": 186, "futex": 202, "sched_getaffinity": 204,
    "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231,
    "set_robust_list": 273, "getcpu": 309, "getrandom": 318, "membarrier": 324, "rseq": 334,
}  # fmt: skip
IOCTL = 16
# What a controller, and a worker that is not confined yet, never need.
DENIED = {
    "ptrace": 101, "syslog": 103, "setuid": 105, "setgid": 106, "setreuid": 113, "setregid": 114, "setgroups": 116,
    "setfsuid": 122, "setfsgid": 123, "acct": 163, "swapon": 167, "reboot": 169, "init_module": 175,
    "delete_module": 176, "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250,
    "perf_event_open": 298, "open_by_handle_at": 304, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
    "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425,
    "io_uring_enter": 426, "io_uring_register": 427, "pidfd_getfd": 438, "process_madvise": 440,
}  # fmt: skip
_MMAP, _MPROTECT, _SOCKET, _CLONE, _SETRESUID, _SETRESGID, _PRCTL, _CLONE3 = 9, 10, 41, 56, 117, 119, 157, 435
_AF_UNIX, _MAP_SHARED, _MAP_GROWSDOWN = 1, 1, 0x100

Instruction = tuple[int, int, int, int]


def _load(offset: int) -> Instruction:
    return (_LOAD, 0, 0, offset)


def _if_equal(value: int, then: Sequence[Instruction]) -> list[Instruction]:
    return [(_JUMP_EQUAL, 0, len(then), value), *then]


def _argument(index: int) -> Instruction:
    return _load(16 + 8 * index)  # the low half: no value tested here is above bit 31


_ALLOWED, _REFUSED = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _EPERM)
_BEGIN = [
    _load(4),
    (_JUMP_EQUAL, 1, 0, _AUDIT_ARCH_X86_64),
    (_RETURN, 0, 0, _KILL),
    _load(0),
    (_JUMP_AT_LEAST, 0, 1, _X32_BIT),
    (_RETURN, 0, 0, _KILL),
]
UNIX_SOCKETS_ONLY = _if_equal(_SOCKET, [_argument(0), (_JUMP_EQUAL, 0, 1, _AF_UNIX), _ALLOWED, _REFUSED])


def program(also: Sequence[int] = (), more: Sequence[Instruction] = ()) -> list[Instruction]:
    """A filter that allows `ALWAYS` only: (operation, jump if true, jump if false, operand).

    Args:
        also: numbers of additional system calls to allow.
        more: further instructions, such as `UNIX_SOCKETS_ONLY`.
    """
    not_executable = [_argument(2), (_JUMP_BITS, 1, 0, _PROT_EXEC), _ALLOWED, _REFUSED]
    # Limits on private memory hold for neither of these kinds of memory.
    not_shared = [_argument(3), (_JUMP_BITS, 0, 1, _MAP_SHARED | _MAP_GROWSDOWN), _REFUSED]
    return [
        *_BEGIN,
        *(line for number in (*ALWAYS.values(), *also) for line in _if_equal(number, [_ALLOWED])),
        *_if_equal(_MMAP, [*not_shared, *not_executable]),
        *_if_equal(_MPROTECT, not_executable),
        *_if_equal(_CLONE, [_argument(0), (_JUMP_BITS, 0, 1, _CLONE_THREAD), _ALLOWED, _REFUSED]),
        *_if_equal(_PRCTL, [_argument(0), (_JUMP_EQUAL, 0, 1, PR_SET_NAME), _ALLOWED, _REFUSED]),
        # Its flags are in memory, which a filter cannot read. With ENOSYS, libc falls back to clone.
        *_if_equal(_CLONE3, [(_RETURN, 0, 0, _ENOSYS)]),
        *more,
        _REFUSED,
    ]


def program_of_controller(first_user: int) -> list[Instruction]:
    """A filter that refuses `DENIED`, sockets but Unix sockets, and user and group ids below ``first_user``."""
    high_ids_only = [_argument(0), (_JUMP_AT_LEAST, 0, 1, first_user), _ALLOWED, _REFUSED]
    return [
        *_BEGIN,
        *(line for number in DENIED.values() for line in _if_equal(number, [_REFUSED])),
        *UNIX_SOCKETS_ONLY,
        *_if_equal(_SETRESUID, high_ids_only),
        *_if_equal(_SETRESGID, high_ids_only),
        _ALLOWED,
    ]


def install(lines: Sequence[Instruction]) -> None:
    """Install a filter for all threads of this process. It needs no-new-privileges.

    Raises:
        OSError: the kernel refused.
    """
    code = b"".join(struct.pack("<HBBI", *line) for line in lines)
    memory = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("<H6xQ", len(code) // 8, ctypes.addressof(memory))
    system_call("seccomp", _FILTER_MODE, _ALL_THREADS, ctypes.create_string_buffer(header, len(header)))
