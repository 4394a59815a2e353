"""A worker that was taken over: confined as every worker is, it tries each way out and says what came of it.

Started with names of layers of confinement it lacks those, to see whether the others hold without them.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from sectum.hetee.confinement import confine, users
from sectum.hetee.confinement.confine import ConfinementReport, close_off, isolate

_libc = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: int) -> Callable[[], int]:
    """A raw system call of x86-64."""

    def attempt() -> int:
        result = _libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    return attempt


def start_threads() -> str:
    """Start as many threads as an attack on the whole machine would."""
    over = threading.Event()
    begun = []
    try:
        for _ in range(1000):
            begun.append(threading.Thread(target=over.wait))
            begun[-1].start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error)) from None
    finally:
        over.set()
    return f"{len(begun)} threads"


def free_and_receive(data: socket.socket) -> str:
    """Make room for a descriptor, then take one that the other end of the data socket pushes."""
    os.close(0)
    return receive_descriptor(data)


def receive_descriptor(data: socket.socket) -> str:
    """Take a descriptor that the other end of the data socket pushes with SCM_RIGHTS."""
    _, ancillary, _, _ = data.recvmsg(1, 64)
    if not ancillary:
        raise OSError(errno.EMFILE, "the descriptor was dropped")
    return "has a descriptor of somebody else"


def attempts(parent: int, data: socket.socket) -> dict[str, Callable[[], object]]:
    """Every way out, by name."""
    buffer = ctypes.addressof(ctypes.create_string_buffer(4096))
    return {
        "read a file": Path("/etc/passwd").read_bytes,
        "read own memory as a file": Path("/proc/self/mem").open,
        "write a file": lambda: Path("/tmp/left-by-a-worker").write_text("x"),
        "list a folder": lambda: list(Path("/").iterdir()),
        "open by handle": call(304, -100, buffer, 0),
        "TCP": lambda: socket.socket().connect(("127.0.0.1", 9)),
        "UDP": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "Unix socket": lambda: socket.socket(socket.AF_UNIX),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "fork": os.fork,
        "execute": lambda: os.execv("/bin/true", ["true"]),
        "ptrace the parent": call(101, 16, parent, 0, 0),
        "read the parent's memory": call(310, parent, buffer, 1, buffer, 1, 0),
        "signal the parent": lambda: os.kill(parent, 0),
        "watch the parent": lambda: os.pidfd_open(parent),
        "file in memory": lambda: os.memfd_create("x"),
        "another descriptor": lambda: os.dup(1),
        "pushed descriptor": lambda: receive_descriptor(data),
        "freed descriptor": lambda: free_and_receive(data),
        "hand a descriptor away": lambda: socket.send_fds(data, [b"x"], [3]),
        "shared memory": lambda: mmap.mmap(-1, 1 << 20),
        "growing memory": call(9, 0, 1 << 20, 3, 0x122, -1, 0),
        "a thousand threads": start_threads,
        "executable memory": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
        "io_uring": call(425, 8, buffer),
        "bpf": call(321, 0, buffer, 120),
        "keyring": call(250, 0, -3, 0),
        "namespace": call(272, 0x10000000),
        "mount": call(165, buffer, buffer, buffer, 0, 0),
        "raise a limit": call(302, 0, 7, buffer, 0),
        "dumpable again": call(157, 4, 1, 0, 0, 0),
        "user 0": call(105, 0),
    }


def main() -> None:
    """Be confined as a worker is, then try everything."""
    parent = os.getppid()
    for number in (3, 4):  # a worker has a link, too
        os.dup2(0, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    tried = attempts(parent, socket.socket(fileno=4))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSYS, "left out for this attack")

    for layer in sys.argv[1:]:
        module, name = {
            "seccomp": (confine.seccomp, "install"),
            "landlock": (confine.landlock, "restrict"),
            "user-namespace": (confine, "new_user_namespace"),
            "no-new-descriptors": (confine, "_no_new_descriptors"),
        }[layer]
        setattr(module, name, refuse)
    report = ConfinementReport()
    isolate(report, user=users.worker_user(users.LAST - 255, 0) if os.geteuid() == 0 else 0)
    close_off(report, 5, threads=200)
    outcomes: dict[str, str] = {}
    for name, attempt in tried.items():
        try:
            outcomes[name] = f"DONE: {attempt()!r}"
        except OSError as error:
            outcomes[name] = errno.errorcode.get(error.errno or 0, str(error))
        if name == "fork" and outcomes[name] == "DONE: 0":
            os._exit(0)
    text = json.dumps({"report": [report.confinement, report.unconfined], "outcomes": outcomes})
    os.write(1, text.encode())
    os._exit(0)


if __name__ == "__main__":
    main()
