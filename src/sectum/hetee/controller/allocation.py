"""What the allocator is told and what it decides. docs/spec/allocation.md has the rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

PRIORITIES = range(8)


@dataclass(frozen=True, slots=True)
class Secure:
    """An enclave, by the number of its worker."""

    enclave: int


@dataclass(frozen=True, slots=True)
class Insecure:
    """An ordinary job, outside any enclave."""

    job: int


Holder = Secure | Insecure


@dataclass(frozen=True, slots=True)
class Resetting:
    """Nobody: its last holder gave the accelerator back, and its reset is not confirmed."""

    after: Holder


@dataclass(frozen=True, slots=True)
class Free:
    """Nobody, and it is reset."""


Owner = Free | Resetting | Secure | Insecure
FREE = Free()


@dataclass(frozen=True)
class Terms:
    """For how long accelerators are lent. Times are in seconds.

    Attributes:
        quantum_s: an enclave's turn while another enclave waits.
        term_s: a turn while the other world waits that may not preempt, and a job's turn while another job waits.
        grace_s: time that an enclave has to give back.
        job_grace_s: time that a job has to give back.
    """

    quantum_s: float = 0.5
    term_s: float = 600.0
    grace_s: float = 65.0
    job_grace_s: float = 10.0


@dataclass(frozen=True)
class Request:
    """A wish for accelerators.

    Attributes:
        asker: who asks, a session or a job. It has one request at a time.
        kind: kind of accelerators.
        count: how many its holder is to have, with those that it has.
        identity: whose request it is: identities share fairly.
        priority: of ``PRIORITIES``, or -1 for a job; the share of an identity doubles with each step.
        holder: who gets them; None for the first worker of the idle queue.
    """

    asker: int
    kind: str
    count: int
    identity: bytes = b""
    priority: int = 0
    holder: Holder | None = None


class Grant(NamedTuple):
    """These accelerators now belong to this holder."""

    asker: int
    holder: Holder
    names: tuple[str, ...]


class Revoke(NamedTuple):
    """The holder is to give these back before a time."""

    holder: Holder
    names: tuple[str, ...]
    by_s: float


class Halt(NamedTuple):
    """The holder has not given back in time: it is to be ended."""

    holder: Holder


Decision = Grant | Revoke | Halt
