"""The settings of a controller, and how it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

GIB = 1 << 30


@dataclass(frozen=True)
class Settings:
    """Limits of a controller. Times are in seconds; the specification gives the defaults.

    Attributes:
        accelerators: number of accelerators of each kind.
        admitted: identities (Ed25519 public keys) that are served, with their priorities, 0 to 7; None serves everyone,
            with priority 0.
        spares: number of unused workers that are kept ready.
        spares_at_most: how many are kept ready when many sessions come.
        enclaves: largest number of workers that serve at a time.
        sessions: largest number of sessions at a time.
        sessions_of_one: largest number of sessions of one identity at a time.
        messages_per_s: messages a second that one identity may send to the controller; twice as many at once.
        quantum_s: time for which a worker owns an accelerator before it can be revoked for a session that waits.
        longest_batch_s: time that a worker has to finish its batch after REVOKE before it is killed.
        job_grace_s: time that a job of the insecure world has to end when it is preempted.
        idle_s: time without a frame after which a session is closed.
        greeting_s: time limit for each step of a handshake.
        starting_s: time limit for the start of a worker.
        drain_s: time that open sessions have to finish when the service stops.
        credit_bytes: largest total of a client's batches in flight.
        open_streams: largest number of a client's batches in flight.
        confinement: steps of confinement without which a worker is not used.
        unconfined: steps of confinement that the controller itself lacks, with reasons.
        memory_bytes: memory that all workers together may hold; 0 for no limit.
    """

    accelerators: dict[str, int] = field(default_factory=lambda: {"cpu": 1})
    admitted: Mapping[bytes, int] | None = None
    spares: int = 2
    spares_at_most: int = 8
    enclaves: int = 64
    sessions: int = 256
    sessions_of_one: int = 32
    messages_per_s: float = 100.0
    quantum_s: float = 0.5
    longest_batch_s: float = 60.0
    job_grace_s: float = 10.0
    idle_s: float = 60.0
    greeting_s: float = 5.0
    starting_s: float = 30.0
    drain_s: float = 30.0
    credit_bytes: int = GIB // 4
    open_streams: int = 32
    confinement: frozenset[str] = frozenset()
    unconfined: tuple[str, ...] = ()
    memory_bytes: int = 0


@dataclass(frozen=True)
class Start:
    """How a controller starts. The program that prepares its surroundings writes this for it.

    Attributes:
        settings: limits.
        images: folder of the images, and of the copies of endorsement and reference manifest.
        users: user id of this controller, from which those of workers follow; 0 if workers keep the user.
        host_user: user id of the host.
        threads: number of threads that compute a batch on one CPU accelerator.
        memory_mib: limit on the private memory of a worker; 0 for no limit.
        debug: whether all evidence states that this process can be debugged.
        allow_unconfined: whether to serve although the kernel refuses a step of confinement.
        operator: user id of who starts the rack, and may run jobs.
        training: whether workers can train.
    """

    settings: Settings
    images: str
    users: int
    host_user: int
    threads: int
    memory_mib: int
    debug: bool
    allow_unconfined: bool
    operator: int
    training: bool = False
