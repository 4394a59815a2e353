"""The message STATE: what a controller tells operators of the whole service. No names of models, no keys."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from sectum.hetee.wire.messages import U32, U63, AcceleratorKind, Count, Message, Word, Words


class JobStatus(Message, frozen=True):
    """What operators may know of a job."""

    index: U32
    state: Literal["waiting", "running", "ending"]
    accelerator: AcceleratorKind
    count: Count
    priority: Annotated[int, Meta(ge=-1, le=7)]


class AcceleratorStatus(Message, frozen=True):
    """Whose an accelerator is: the number of a worker or a job, or 0."""

    name: Word
    world: Literal["free", "resetting", "secure", "insecure", "withheld"]
    owner: U32 = 0


class WorkerStatus(Message, frozen=True):
    """One line of `sectum hetee top`."""

    index: U32
    state: Literal["spare", "assigned", "serving", "draining", "wiped", "cleaned"]
    accelerators: Words
    open_streams: U32
    batches: U63
    images: U63
    bytes: U63


class State(Message, frozen=True):
    """STATE: counts of the whole service, for operators."""

    workers: Annotated[tuple[WorkerStatus, ...], Meta(max_length=256)]
    waiting: U32
    sessions: U32
    draining: bool
    unconfined: Words = ()
    problems: Words = ()
    warnings: Words = ()
    accelerators: Annotated[tuple[AcceleratorStatus, ...], Meta(max_length=256)] = ()
    jobs: Annotated[tuple[JobStatus, ...], Meta(max_length=64)] = ()
    preemptions: U63 = 0
