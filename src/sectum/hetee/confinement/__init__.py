"""Confinement of roles: they give up files, new sockets, new processes and privileges.

A worker does it in two steps: `confine.isolate` before any thread is started, and `confine.close_off` after all code is
loaded and before the first byte of a tenant arrives. A step that the kernel refuses is reported.
"""
