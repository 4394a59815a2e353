"""Confinement of roles: they give up files, new sockets, new processes and privileges.

A worker does it in two steps: `isolate` before any thread is started, and `close_off` after all code is loaded and
before the first byte of a tenant arrives. A step that the kernel refuses is reported.
"""

from sectum.hetee.confinement.confine import (
    ConfinementReport,
    close_off,
    confine_controller,
    isolate,
    new_user_namespace,
)

__all__ = [
    "ConfinementReport",
    "close_off",
    "confine_controller",
    "isolate",
    "new_user_namespace",
]
