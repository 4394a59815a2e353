"""A host or a controller that was taken over: confined as the real one is, it tries what it should not be able to do.

    python hetee_hostile_role.py host|controller confined|free FACTS

FACTS is JSON: paths and process ids of a running rack. The outcome of each attempt is printed as JSON.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
_PTRACE_ATTACH, _PTRACE_DETACH = 16, 17


def call(number: int, *arguments: int) -> Callable[[], int]:
    """A raw system call of x86-64."""

    def attempt() -> int:
        result = _libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    return attempt


def attach(pid: int) -> Callable[[], int]:
    """Stop another process with ptrace, and let it go on."""

    def attempt() -> int:
        call(101, _PTRACE_ATTACH, pid, 0, 0)()
        os.waitpid(pid, 0)
        return call(101, _PTRACE_DETACH, pid, 0, 0)()

    return attempt


def take_descriptor(pid: int, number: int) -> Callable[[], int]:
    """Duplicate a descriptor of another process."""

    def attempt() -> int:
        return call(438, os.pidfd_open(pid), number, 0)()

    return attempt


def read_memory(pid: int) -> Callable[[], bytes]:
    """Read a page that another process has mapped."""

    def attempt() -> bytes:
        begin = int(Path(f"/proc/{pid}/maps").read_text().partition("-")[0], 16)
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            memory.seek(begin)
            return memory.read(16)

    return attempt


def connect_to(path: str) -> Callable[[], None]:
    """Connect to a Unix socket."""

    def attempt() -> None:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(path)

    return attempt


def attempts(facts: Any, role: str) -> dict[str, Callable[[], object]]:
    """Every attempt, by name. Those that would do harm if they succeeded do it to files made for them."""
    others = {"worker": facts.worker} | ({"controller": facts.controller} if role == "host" else {"host": facts.host})
    tried: dict[str, Callable[[], object]] = {
        "read the endorsement key": Path(facts.key).read_bytes,
        "list the folder of the key": lambda: list(Path(facts.key).parent.iterdir()),
        "read the log": Path(facts.log).read_bytes,
        "read a file of the system": Path("/etc/passwd").read_bytes,
        "write a file": lambda: Path(facts.scratch, "written").write_text("x"),
        "delete a file": Path(facts.scratch, "to-be-deleted").unlink,
        "TCP": lambda: socket.socket().connect(("127.0.0.1", facts.port)),
        "listen on TCP": lambda: socket.create_server(("127.0.0.1", 0)).close(),
        "become root": lambda: os.setresuid(0, 0, 0),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
        "bpf": call(321, 0, 0, 0),
    }
    if role == "host":
        tried |= {
            "make a file beside the socket": lambda: Path(facts.socket).with_name("made").write_text("x"),
            "fork": lambda: os._exit(0) if os.fork() == 0 else os.wait(),
            "signal the controller": lambda: os.kill(facts.controller, 0),
        }
    for name, pid in others.items():
        tried |= {
            f"read the memory of the {name}": read_memory(pid),
            f"ptrace the {name}": attach(pid),
            f"take a descriptor of the {name}": take_descriptor(pid, 3),
            f"list the descriptors of the {name}": lambda pid=pid: list(Path(f"/proc/{pid}/fd").iterdir()),  # type: ignore[misc]
            f"enter the root of the {name}": lambda pid=pid: list(Path(f"/proc/{pid}/root").iterdir()),  # type: ignore[misc]
        }
    # Last, because it succeeds without confinement, and leaves the process without rights over the others.
    return tried | ({"namespace": call(272, 0x10000000)} if role == "host" else {})


def confine_as_host(facts: Any) -> list[str]:
    """Do what a host does before it serves; returns the path of the controller's socket that is left to it."""
    from sectum.hetee.host.__main__ import _confine

    path, report = _confine(SimpleNamespace(controller=Path(facts.socket), with_parent=None))
    connect_to(str(path))()  # what it needs, it still may
    return report.unconfined


def confine_as_controller(facts: Any) -> list[str]:
    """Do what is done before a controller is started, and what it does itself."""
    from sectum.hetee.confinement import users
    from sectum.hetee.confinement.confine import ConfinementReport, confine_controller
    from sectum.hetee.installation import enter

    report = ConfinementReport()
    reached: list[str] = []

    def execute(command: str, _words: list[str], _environment: object) -> None:
        reached.append(command)
        confine_controller(report, users.host_user(os.geteuid()))

    enter.os.execve = execute  # type: ignore[assignment]
    enter.software.copy = lambda _files, image: image.mkdir()  # type: ignore[assignment]
    sys.argv = ["enter", "--socket", facts.socket, "--endorsement", str(Path(facts.key).parent)]
    sys.argv += ["--reference", str(Path(facts.key).parents[1] / "reference")]
    enter.main()
    assert reached
    return report.unconfined


def main() -> None:
    """Be confined, then try everything."""
    role, how = sys.argv[1:3]
    facts = SimpleNamespace(**json.loads(sys.argv[3]))
    tried = attempts(facts, role)
    unconfined = []
    if how == "confined":
        unconfined = (confine_as_host if role == "host" else confine_as_controller)(facts)
    outcomes: dict[str, str] = {}
    for name, attempt in tried.items():
        try:
            outcomes[name] = f"DONE: {str(attempt())[:40]}"
        except OSError as error:
            outcomes[name] = errno.errorcode.get(error.errno or 0, str(error))
    os.write(1, json.dumps({"outcomes": outcomes, "unconfined": unconfined}).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
