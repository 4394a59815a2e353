"""The messages of client, controller, worker and job, and the only encoding of all messages.

A message is a MessagePack map with the fields below in this order. A field with its default value is left out.
`decode` refuses everything that `encode` would not write.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct

from sectum.hetee.errors import Refusal, refusal

U32 = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
# MessagePack allows up to 2^64-1; counts here stay below 2^63.
U63 = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Milliseconds = Annotated[int, Meta(ge=0, le=600_000)]
Size = Annotated[int, Meta(ge=0, le=2 << 30)]
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
SessionId = Annotated[bytes, Meta(min_length=16, max_length=16)]
Word = Annotated[str, Meta(min_length=1, max_length=64)]
Name = Annotated[str, Meta(max_length=256)]
Detail = Annotated[str, Meta(max_length=512)]
Signed = Annotated[bytes, Meta(max_length=4096)]
Words = Annotated[tuple[Word, ...], Meta(max_length=64)]
Count = Annotated[int, Meta(ge=1, le=32)]

AcceleratorKind = Literal["cpu", "cuda", "paced"]
ACCELERATOR_KINDS: tuple[str, ...] = get_args(AcceleratorKind)


class Message(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A payload with named fields."""


class Empty(Message, frozen=True):
    """A message without fields."""


class Offer(Message, frozen=True):
    """The sealed part of ATTEST: evidence, and the MAC that binds it to the key exchange."""

    evidence: Annotated[bytes, Meta(max_length=48 << 10)]
    finished: Digest


class Proof(Message, frozen=True):
    """The sealed part of PROOF: the client's identity and its proof."""

    identity: Digest
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]
    finished: Digest


class AcceleratorCount(Message, frozen=True):
    """The number of accelerators of one kind."""

    kind: AcceleratorKind
    count: U32


class Accept(Message, frozen=True):
    """ACCEPT: the session is open."""

    service: Word
    version: Word
    idle_ms: Milliseconds
    accelerators: Annotated[tuple[AcceleratorCount, ...], Meta(max_length=16)]


class Configure(Message, frozen=True):
    """CONFIGURE: create an enclave; HETEE's configuration message."""

    accelerator: AcceleratorKind
    count: Count = 1
    wait_ms: Milliseconds = 60_000


class Queued(Message, frozen=True):
    """QUEUED: the number of sessions that are served first."""

    ahead: U32


class Vouch(Message, frozen=True):
    """VOUCH: an enclave is ready; the evidence and keys of its worker."""

    index: U32
    evidence: Annotated[bytes, Meta(max_length=48 << 10)]
    worker_key: Digest
    receipt_key: Digest
    accelerators: Words
    confinement: Words
    unconfined: Words


class Lost(Message, frozen=True):
    """LOST: an enclave died; with the signed record of its end."""

    index: U32
    code: Refusal
    detail: Detail
    record: Signed = b""


class Deadline(Message, frozen=True):
    """TERMINATE, DRAIN, WIPE: the time that is left to answer open streams. JOB_REVOKE: the time to give back."""

    deadline_ms: Milliseconds


class Cleaned(Message, frozen=True):
    """CLEANED: the signed cleaning record of an enclave."""

    record: Signed


class Failure(Message, frozen=True):
    """FAIL, REFUSED, ERROR: the reason for a refusal."""

    code: Refusal
    detail: Detail


class Resize(Message, frozen=True):
    """RESIZE: give the enclave another number of accelerators; how long to wait for more."""

    count: Count
    wait_ms: Milliseconds = 60_000


class Resized(Message, frozen=True):
    """RESIZED: the accelerators that the enclave has now, and why RESIZE was refused, if it was."""

    accelerators: Words
    refused: Annotated[tuple[Failure, ...], Meta(max_length=1)] = ()


class Challenge(Message, frozen=True):
    """CHALLENGE: asks the controller to attest itself again, with a nonce."""

    nonce: Digest


class FreshEvidence(Message, frozen=True):
    """EVIDENCE: the controller's evidence that answers a CHALLENGE."""

    evidence: Annotated[bytes, Meta(max_length=48 << 10)]


class Ping(Message, frozen=True):
    """PING and PONG."""

    number: U63


class Job(Message, frozen=True):
    """JOB_REQUEST: a job of the insecure world asks for accelerators. Every session preempts one of priority -1."""

    accelerator: AcceleratorKind
    count: Count = 1
    priority: Annotated[int, Meta(ge=-1, le=7)] = -1


class Started(Message, frozen=True):
    """STARTED: a worker has started; its keys, and its confinement."""

    worker_key: Digest
    receipt_key: Digest
    pid: U32
    confinement: Words
    unconfined: Words


class Release(Message, frozen=True):
    """RELEASE: the secret of one session, sealed to the worker's key."""

    session: SessionId
    index: U32
    sealed: Annotated[bytes, Meta(min_length=80, max_length=80)]
    accelerator: AcceleratorKind
    credit_bytes: Size
    open_streams: Count


class Accelerators(Message, frozen=True):
    """GRANT, REVOKE, RETURNED, JOB_GRANT: names of accelerators."""

    accelerators: Words


class Wiped(Message, frozen=True):
    """WIPED: the worker has overwritten its buffers and keys."""

    wiped_bytes: U63
    answered: U63
    refused: U63


class Heartbeat(Message, frozen=True):
    """HEARTBEAT: what a worker did since it started, for operators."""

    open_streams: U32
    batches: U63
    images: U63
    bytes: U63
    busy_us: U63


M = TypeVar("M", bound=Message)

_ENCODER = msgspec.msgpack.Encoder()
_DECODERS: dict[type[Message], msgspec.msgpack.Decoder[Any]] = {}


def encode(message: Message) -> bytes:
    """Write a message."""
    return _ENCODER.encode(message)


def decode(payload: bytes | bytearray | memoryview, schema: type[M]) -> M:
    """Read a message of the given schema.

    Raises:
        MessageRefused: ``MALFORMED``, it is not the encoding of a valid message.
    """
    decoder = _DECODERS.get(schema)
    if decoder is None:
        decoder = _DECODERS[schema] = msgspec.msgpack.Decoder(schema)
    try:
        message: M = decoder.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError):
        # The library's text may quote what was in the message.
        raise refusal(Refusal.MALFORMED, f"{schema.__name__} does not follow its schema") from None
    if _ENCODER.encode(message) != payload:
        raise refusal(Refusal.MALFORMED, f"{schema.__name__} is not in its only allowed encoding")
    return message
