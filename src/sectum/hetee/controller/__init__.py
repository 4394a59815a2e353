"""The security controller: sessions, attestation, key release, accelerators, cleaning. Part of the trusted base.

It never sees a batch: sealed batches go from the host to the worker and back. `Controller` is a state machine that owns
no socket, process or clock; `service` provides them.
"""
