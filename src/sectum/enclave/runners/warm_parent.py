"""The process that `WarmRunner` forks its children from: ``python -m sectum.enclave.runners.warm_parent``.

It has the runtime loaded and does not use it. Requests come as messages on the Unix socket that is its standard input:
a folder, and three descriptors for the child's standard input, output and error. It answers with the child's process
number and, when a child ends, with its exit code. It ends when the socket is closed.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import socket
import sys
import traceback
from typing import NoReturn

from sectum.enclave.runners import child

_LARGEST_MESSAGE = 1 << 16


def _become_child(folder: str, descriptors: list[int]) -> NoReturn:
    """Take over the child's session, folder and descriptors, and serve its job; never return to the parent's code."""
    code = 1
    try:
        os.setsid()  # like a started process: its own children can be killed with it
        for target, descriptor in enumerate(descriptors):  # the first replaces the parent's socket
            os.dup2(descriptor, target)
            os.close(descriptor)
        os.chdir(folder)
        child.main()
        code = 0
    except BaseException:  # noqa: BLE001 - after any error, this process must not run the parent's code
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)  # without exit handlers: they belong to the parent


def serve(requests: socket.socket) -> None:
    """Fork a child for each request until the socket is closed."""
    gc.collect()
    gc.freeze()  # a collection in a child would write to, and so copy, every page of these objects
    running: dict[int, int] = {}  # pidfd -> process
    poller = select.poll()
    poller.register(requests, select.POLLIN)
    while True:
        for descriptor, _ in poller.poll():
            if descriptor in running:
                pid = running.pop(descriptor)
                poller.unregister(descriptor)
                os.close(descriptor)
                _, status = os.waitpid(pid, 0)
                requests.send(json.dumps({"ended": pid, "code": os.waitstatus_to_exitcode(status)}).encode())
                continue
            message, descriptors, _, _ = socket.recv_fds(requests, _LARGEST_MESSAGE, 3)
            if not message:
                return
            pid = os.fork()
            if pid == 0:
                _become_child(json.loads(message)["folder"], descriptors)
            for received in descriptors:
                os.close(received)
            pidfd = os.pidfd_open(pid)
            running[pidfd] = pid
            poller.register(pidfd, select.POLLIN)
            requests.send(json.dumps({"started": pid}).encode())


if __name__ == "__main__":
    with socket.socket(fileno=0) as own, contextlib.suppress(ConnectionError):  # closed with an answer unread
        serve(own)
    os._exit(0)  # the descriptor is closed already, under Python's own standard input
