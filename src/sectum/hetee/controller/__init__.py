"""The security controller: sessions, attestation, key release, accelerators, cleaning. Part of the trusted base.

It never sees a batch: sealed batches go from the host to the worker and back. `Controller` is a state machine that owns
no socket, process or clock; `service` provides them.

==================  ====================================================================================
``controller``      events come in here, and go to the rooms below
``core``            what the rooms share
``admission``       who gets a session: handshake, admitted identities, places; attestation
``sessions``        messages and time limits of a session; ``ending``: how it ends
``requests``        what a session asks the allocator for, and its wait; ``resizing``: RESIZE
``granting``        where an accelerator is granted, and taken back
``key_release``     where a key leaves the controller: evidence, RELEASE, ROUTE
``worker_events``   messages and ends of workers; cleaning records
``worker_pool``     workers from their start to their end; ``demand``: how many wait; ``memory``: their limit
``resets``          where a reset is confirmed
``jobs``            jobs of the insecure world
``allocator``       who gets which accelerator; ``leases``: who has it; ``fair_queue``: who is next
``shares``          what one identity may use
``report``          what operators are told
``service``         the process: sockets of hosts, signals; ``worker_supervisor``: its workers
==================  ====================================================================================
"""
