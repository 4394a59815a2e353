"""Confinement of a worker: it gives up files, new sockets, new processes and privileges.

There are two steps: `isolate` before any thread is started, and `close_off` after all code is loaded and before the
first byte of a tenant arrives. A step that the kernel refuses is reported.
"""

from sectum.hetee.worker.confinement.confine import ConfinementReport, close_off, isolate

__all__ = ["ConfinementReport", "close_off", "isolate"]
