"""The schemas of the messages between a client and its worker; see `wire.messages` for their encoding."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from sectum.hetee.wire import schemas as wire
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import (
    U32,
    U63,
    Count,
    Digest,
    Empty,
    Failure,
    Message,
    Milliseconds,
    Name,
    Ping,
    Signed,
    Size,
    Words,
    decode,
)

Encoding = Literal["raw", "jpeg", "utf8"]
CodeFormat = Literal["onnx", "safetensors", "training"]
Dtype = Literal[
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
    "float16", "bfloat16", "float32", "float64", "complex64", "complex128", "string",
]  # fmt: skip
Level = Annotated[float, Meta(ge=-1e9, le=1e9)]
Side = Annotated[int, Meta(ge=1, le=8192)]
ItemSizes = Annotated[tuple[Size, ...], Meta(max_length=16_384)]


class Ready(Message, frozen=True):
    """READY: the worker has its keys; the credit and the streams that it grants."""

    index: U32
    credit_bytes: Size
    open_streams: Count
    accelerators: Words


class CodeOpening(Message, frozen=True):
    """CODE: a model, weights or a training job follows; HETEE's code message. UNLOAD: it is no longer needed."""

    format: CodeFormat
    sha256: Digest


class Slot(Message, frozen=True):
    """An input or output of a model."""

    name: Name
    dtype: Dtype
    shape: Annotated[tuple[Annotated[int, Meta(ge=0, le=2 << 30)] | Name, ...], Meta(max_length=8)]


Slots = Annotated[tuple[Slot, ...], Meta(max_length=64)]


class Loaded(Message, frozen=True):
    """LOADED: the model is loaded."""

    sha256: Digest
    inputs: Slots
    outputs: Slots
    load_us: U63


class Pixels(Message, frozen=True):
    """The conversion of a batch's pixels to the model's numbers. Without any field they are taken as they are."""

    layout: Literal["nchw", "nhwc"] = "nchw"
    mean: Annotated[tuple[Level, ...], Meta(max_length=4)] = ()
    std: Annotated[tuple[Annotated[float, Meta(gt=0, le=1e9)], ...], Meta(max_length=4)] = ()
    bgr: bool = False
    size: Annotated[tuple[Side, ...], Meta(max_length=2)] = ()
    shorter: Annotated[int, Meta(ge=0, le=8192)] = 0


class Tensor(Message, frozen=True):
    """A tensor whose bytes are in the chunks. ``sizes`` gives the bytes of each item, for ``jpeg`` and ``utf8``."""

    name: Name
    dtype: Dtype
    shape: Annotated[tuple[Size, ...], Meta(max_length=8)]
    encoding: Encoding = "raw"
    sizes: ItemSizes = ()
    pixels: Annotated[tuple[Pixels, ...], Meta(max_length=1)] = ()


Tensors = Annotated[tuple[Tensor, ...], Meta(max_length=64)]


class Pace(Message, frozen=True):
    """Published times that a paced accelerator waits for, in microseconds for a batch, and their source."""

    preprocess_us: U32
    compute_us: U32
    source: Name


class Work(Message, frozen=True):
    """What a training job does: ``rate`` replaces its learning rate; ``begin`` is a byte of a checkpoint, or a block.

    ``join``, ``gradients`` and ``apply`` are for a job that several workers train together: ``round`` counts the
    attempts, ``shares`` are the items of each worker.
    """

    kind: Literal["train", "score", "checkpoint", "join", "gradients", "apply"]
    step: U63
    rate: Annotated[tuple[Annotated[float, Meta(ge=0, le=1e6)], ...], Meta(max_length=1)] = ()
    begin: U63 = 0
    round: U32 = 0
    shares: Annotated[tuple[U32, ...], Meta(max_length=16)] = ()


class BatchOpening(Message, frozen=True):
    """BATCH: a batch follows; HETEE's data message. Without ``outputs`` it asks for all.

    With ``split`` the accelerators of the enclave that do nothing compute parts of it.
    """

    model: Digest
    tensors: Tensors
    deadline_ms: Milliseconds
    outputs: Annotated[tuple[Name, ...], Meta(max_length=64)] = ()
    paced: Annotated[tuple[Pace, ...], Meta(max_length=1)] = ()
    work: Annotated[tuple[Work, ...], Meta(max_length=1)] = ()
    split: bool = False


class ResultOpening(Message, frozen=True):
    """RESULT: the outputs of a batch follow; HETEE's result message."""

    tensors: Tensors
    paced: bool


class SignedReceipt(Message, frozen=True):
    """RECEIPT: the signed receipt of a batch."""

    receipt: Signed


class Credit(Message, frozen=True):
    """CREDIT: the number of bytes of batches that may be sent again."""

    credit_bytes: Annotated[int, Meta(ge=1, le=2 << 30)]


class Finished(Message, frozen=True):
    """FINISHED: the worker's counts."""

    answered: U63
    refused: U63
    opened_bytes: U63
    sealed_bytes: U63


SCHEMAS: dict[Kind, type[Message]] = {
    **wire.SCHEMAS,
    Kind.READY: Ready,
    Kind.CODE: CodeOpening,
    Kind.BATCH: BatchOpening,
    Kind.LOADED: Loaded,
    Kind.RESULT: ResultOpening,
    Kind.RECEIPT: SignedReceipt,
    Kind.REFUSED: Failure,
    Kind.CANCEL: Empty,
    Kind.CREDIT: Credit,
    Kind.FINISH: Empty,
    Kind.FINISHED: Finished,
    Kind.UNLOAD: CodeOpening,
    Kind.PING_WORKER: Ping,
    Kind.PONG_WORKER: Ping,
}
"""The schema of each type with a message as payload. HELLO, ATTEST, PROOF and CHUNK have other payloads."""


def read(kind: Kind, payload: bytes | bytearray | memoryview) -> Message:
    """Decode the message of a frame of this type.

    Raises:
        MessageRefused: as `decode`.
    """
    return decode(payload, SCHEMAS[kind])
