"""A host that was taken over: it opens as many connections to the controller as it can, and says nothing on them.

Started with the user id and group id of the host, and a path of the controller's socket. It ends when its input does.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections import deque

_CONNECTIONS = 200  # more than the controller in the test has descriptors
_PAUSE_S = 0.01  # while the controller has not taken those that wait to be accepted


def main() -> None:
    """Connect again and again; print how often it was possible."""
    user, path = int(sys.argv[1]), sys.argv[2]
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    held: deque[socket.socket] = deque()
    count, pause_s = 0, 0.0
    while not select.select([sys.stdin], [], [], pause_s)[0]:
        peer = socket.socket(socket.AF_UNIX)
        peer.setblocking(False)
        try:
            peer.connect(path)
        except OSError:  # only connections push out older ones, however fast they are tried
            peer.close()
            pause_s = _PAUSE_S
            continue
        count, pause_s = count + 1, 0.0
        held.append(peer)
        if len(held) > _CONNECTIONS:
            held.popleft().close()
    print(count)


if __name__ == "__main__":
    main()
