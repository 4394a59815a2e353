"""How ``sectum hetee resize`` reaches a session of the same user: a Unix socket of the process that has its keys.

The socket lies in a folder that only the user can enter. A request and its answer are one line of JSON each.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sectum.errors import SectumError, UsageError

MOST_ACCELERATORS = 32
_LINE_BYTES = 8192
_WAIT_S = 1400.0  # longer than `Session.resize` takes
_LINE_S = 5.0

Resize = Callable[..., tuple[str, ...]]


def _folder() -> Path:
    from sectum.hetee.launcher import state_directory

    return state_directory() / "sessions"


@contextmanager
def _at(name: str) -> Iterator[str]:
    """A path for a socket in the folder, however long the folder's own path is."""
    descriptor = os.open(_folder(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


@contextmanager
def resizable(command: str, resize: Resize) -> Iterator[None]:
    """Let ``sectum hetee resize`` reach a session while the block runs; without it where no socket can be made.

    Args:
        command: what the process runs, as a word.
        resize: as `Session.resize`.
    """
    name = f"{os.getpid()}-{command}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            _folder().mkdir(mode=0o700, parents=True, exist_ok=True)
            _folder().chmod(0o700)
            with _at(name) as path:
                listener.bind(path)
        except OSError:
            yield
            return
        listener.listen()
        thread = threading.Thread(target=_serve, args=(listener, resize), name="resizable", daemon=True)
        thread.start()
        try:
            yield
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            (_folder() / name).unlink(missing_ok=True)
            thread.join(_LINE_S)


def _serve(listener: socket.socket, resize: Resize) -> None:
    while True:
        try:
            asking, _ = listener.accept()
        except OSError:
            return
        with asking, suppress(OSError):
            asking.settimeout(_LINE_S)
            credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            if struct.unpack("3i", credentials)[1] == os.geteuid():
                asking.sendall(json.dumps(_answer(_line(asking), resize)).encode() + b"\n")


def _answer(line: bytes, resize: Resize) -> dict[str, Any]:
    from sectum.hetee.errors import HeteeError

    try:
        wanted = json.loads(line)
        count, wait_s = int(wanted["count"]), float(wanted["wait_s"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return {"error": "the request was not understood: both programs must be of one version"}
    try:
        return {"accelerators": resize(count, wait_s=wait_s)}
    except HeteeError as error:
        return {"code": error.code.name, "detail": error.detail}
    except SectumError as error:
        return {"error": str(error)}


def _line(source: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n") and len(data) < _LINE_BYTES:
        part = source.recv(_LINE_BYTES)
        if not part:
            break
        data += part
    return data


def sessions() -> dict[int, str]:
    """The processes of this user whose sessions can be resized, with what they run; those that died are forgotten."""
    found = {}
    for path in sorted(_folder().glob("*-*")) if _folder().is_dir() else ():
        number, _, command = path.name.partition("-")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                with _at(path.name) as at:
                    probe.connect(at)
            except OSError:
                path.unlink(missing_ok=True)
            else:
                found[int(number)] = command
    return found


def ask(pid: int, command: str, count: int, wait_s: float) -> list[str]:
    """Have a process resize its enclave; returns the names of its accelerators.

    Raises:
        HeteeError: as `Session.resize`.
        UsageError: the process has ended.
    """
    from sectum.hetee.errors import Refusal, refusal

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(_WAIT_S)
        try:
            with _at(f"{pid}-{command}") as path:
                asking.connect(path)
            asking.sendall(json.dumps({"count": count, "wait_s": wait_s}).encode() + b"\n")
            answer = json.loads(_line(asking))
        except (OSError, ValueError):
            raise UsageError(f"process {pid} has ended, and its session with it") from None
    if "code" in answer:
        raise refusal(Refusal[answer["code"]], answer["detail"])
    if "error" in answer:
        raise UsageError(answer["error"])
    return list(answer["accelerators"])
