"""The seccomp filter, interpreted instruction by instruction, allows the listed system calls and no others."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sectum.hetee.confinement import seccomp

X86_64, ALLOW, KILL, EPERM, ENOSYS = 0xC000003E, 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026


def verdict(number: int, *arguments: int, architecture: int = X86_64, also: tuple[int, ...] = ()) -> int:
    """An interpreter for the part of classic BPF that seccomp allows."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *(arguments + (0,) * 6)[:6])
    lines, at, word = seccomp.program(also), 0, 0
    while True:
        code, if_true, if_false, operand = lines[at]
        at += 1
        if code == 0x20:
            word = struct.unpack_from("<I", data, operand)[0]
        elif code == 0x06:
            return operand
        else:
            holds = {0x15: word == operand, 0x35: word >= operand, 0x45: bool(word & operand)}[code]
            at += if_true if holds else if_false


def test_listed_calls_pass() -> None:
    """Every listed call is allowed, whatever its arguments."""
    for number in seccomp.ALWAYS.values():
        assert verdict(number, 7, 7, 7, 7) == ALLOW


@given(st.integers(0, 0x3FFFFFFF), st.integers(0, 2**64 - 1))
def test_others_do_not(number: int, argument: int) -> None:
    """No other call is allowed, but for the four that depend on their arguments."""
    if number in seccomp.ALWAYS.values() or number in (9, 10, 56, 157):
        return
    assert verdict(number, argument, argument, argument) == (ENOSYS if number == 435 else EPERM)


@pytest.mark.parametrize(
    ("name", "number"),
    [("open", 2), ("socket", 41), ("connect", 42), ("fork", 57), ("execve", 59), ("kill", 62), ("ptrace", 101),
     ("openat", 257), ("process_vm_readv", 310), ("io_uring_setup", 425), ("pidfd_getfd", 438), ("ioctl", 16)],
)  # fmt: skip
def test_ways_out_are_closed(name: str, number: int) -> None:
    """The calls that reach files, sockets, processes or rings are refused by name."""
    assert verdict(number) == EPERM, name


def test_memory_is_never_executable() -> None:
    """Memory can be mapped and protected, but not so that it can be executed."""
    for number in (9, 10):
        assert verdict(number, 0, 4096, 3) == ALLOW
        assert verdict(number, 0, 4096, 5) == EPERM


def test_only_threads_are_made() -> None:
    """Clone makes a thread of this process, never another process."""
    assert verdict(56, 0x3D0F00) == ALLOW
    assert verdict(56, 0x1200011) == EPERM
    assert verdict(57) == verdict(58) == EPERM


def test_other_architectures_die() -> None:
    """A call with the numbers of another machine, or of x32, ends the process."""
    assert verdict(0, architecture=0x40000003) == KILL
    assert verdict(0x40000000) == verdict(0x400001FF) == KILL


def test_a_device_needs_one_more() -> None:
    """With a device, ioctl is allowed as well, and nothing besides."""
    assert verdict(seccomp.IOCTL, also=(seccomp.IOCTL,)) == ALLOW
    assert verdict(2, also=(seccomp.IOCTL,)) == EPERM
