"""User ids of their own for the controller, the host and each worker of a rack that root starts."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from sectum.hetee.confinement import kernel

# The range that systemd hands out to services without users of their own. No account has these ids.
FIRST, LAST = 61184, 65519
_OF_A_RACK = 256


def first_user(folder: Path) -> int:
    """The first of the 256 user ids of the rack with this folder: the controller's; the next is the host's.

    The ids of workers follow. Two racks may share ids; their roles are separated by other means as well.
    """
    places = (LAST + 1 - FIRST) // _OF_A_RACK
    return FIRST + _OF_A_RACK * (zlib.crc32(os.fsencode(folder.resolve())) % places)


def host_user(controller: int) -> int:
    """The user id of the host that belongs to a controller with this user id."""
    return controller + 1


def worker_user(controller: int, number: int) -> int:
    """The user id of a worker, by its number."""
    return controller + 2 + number % (_OF_A_RACK - 2)


def become(user: int, capabilities: tuple[int, ...] = ()) -> None:
    """Become this user, with a group of the same number, and keep only these capabilities.

    Raises:
        OSError: this process may not, or the user id does not exist in its user namespace.
    """
    if os.geteuid() == 0:
        os.setgroups([])
    kernel.prctl(kernel.PR_SET_KEEPCAPS, 1)
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    kernel.set_capabilities(capabilities)
    for capability in capabilities:  # kept by programs that this process executes
        kernel.prctl(kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_RAISE, capability)
