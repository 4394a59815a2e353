"""A host that was taken over: it opens as many connections to the controller as it can, and says nothing on them.

Started with the user id and group id of the host, and a path of the controller's socket.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import suppress

_SECONDS = 8.0
_CONNECTIONS = 2000


def main() -> None:
    """Connect again and again for some seconds; print how often it was possible."""
    user, path = int(sys.argv[1]), sys.argv[2]
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    held: list[socket.socket] = []
    count, end_s = 0, time.monotonic() + _SECONDS
    while time.monotonic() < end_s:
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(0.2)
        with suppress(OSError):
            peer.connect(path)
            count += 1
        held.append(peer)
        if len(held) > _CONNECTIONS:
            held.pop(0).close()
    print(count)


if __name__ == "__main__":
    main()
