"""What an operator can set."""

from __future__ import annotations

from dataclasses import dataclass, field

GIB = 1 << 30


@dataclass(frozen=True)
class Settings:
    """Limits of a controller. Times are seconds; the specification gives the defaults.

    Attributes:
        accelerators: how many there are of each kind.
        admitted: identities (Ed25519 public keys) that are served; None serves everyone.
        spares: clean workers that are kept waiting.
        enclaves: the most workers that may serve at a time.
        sessions: the most connections at a time.
        quantum_s: how long an accelerator is owned before somebody who waits may have it.
        longest_batch_s: what a worker may take to finish a batch before it is killed for not giving back.
        idle_s: how long a client may be silent.
        greeting_s: how long each step of a handshake may take.
        starting_s: how long a worker may take to start.
        drain_s: how long sessions may go on when the service is stopped.
        credit_bytes: bytes of batches that a client may have on its way at a time.
        open_streams: batches that a client may have on its way at a time.
    """

    accelerators: dict[str, int] = field(default_factory=lambda: {"cpu": 1})
    admitted: frozenset[bytes] | None = None
    spares: int = 2
    enclaves: int = 64
    sessions: int = 256
    quantum_s: float = 0.5
    longest_batch_s: float = 60.0
    idle_s: float = 60.0
    greeting_s: float = 5.0
    starting_s: float = 30.0
    drain_s: float = 30.0
    credit_bytes: int = GIB // 4
    open_streams: int = 16
