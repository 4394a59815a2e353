"""Landlock without any rule: it refuses all access to files, TCP ports and processes outside that it can refuse."""

from __future__ import annotations

import ctypes
import os
import struct

from sectum.hetee.confinement.kernel import system_call

# linux/landlock.h: number of file access rights in each version of the interface.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_FILE_RIGHTS_NEWEST = 16  # from 5 on
_BIND_AND_CONNECT_TCP = 0b11  # from 4 on
_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11  # from 6 on
_ASK_VERSION = 1


def restrict() -> None:
    """Give up every right, for this thread and those that it starts. It needs no-new-privileges.

    Raises:
        OSError: the kernel has no Landlock, or refused.
    """
    version = system_call("landlock_create_ruleset", None, 0, _ASK_VERSION)
    files = (1 << _FILE_RIGHTS.get(version, _FILE_RIGHTS_NEWEST)) - 1
    handled = [
        files,
        _BIND_AND_CONNECT_TCP if version >= 4 else 0,
        _ABSTRACT_SOCKETS_AND_SIGNALS if version >= 6 else 0,
    ]
    size = 8 if version < 4 else 16 if version < 6 else 24
    attributes = ctypes.create_string_buffer(struct.pack("<QQQ", *handled)[:size], size)
    ruleset = system_call("landlock_create_ruleset", attributes, size, 0)
    try:
        system_call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)
