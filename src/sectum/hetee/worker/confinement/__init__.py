"""Giving up everything that a worker does not need: files, sockets, processes, privileges.

In two steps, as one needs what the other takes away: `isolate` before anything starts a thread, `close_off` when all
code is loaded and before the first byte of a tenant. What the kernel refuses is reported, never assumed.
"""

from sectum.hetee.worker.confinement.confine import Report, close_off, isolate

__all__ = ["Report", "close_off", "isolate"]
