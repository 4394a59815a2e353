"""The description of a training job: what an owner asks an enclave to train, and how."""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Literal

from msgspec import Meta

from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire.kinds import MESSAGE_BYTES
from sectum.hetee.wire.messages import U32, U63, Digest, Message, Name, decode, encode

PART_BYTES = 512 << 20
"""Largest part of a checkpoint in one answer; a larger checkpoint comes in several."""
LABELS, SCORES, LOSS, STATE, CHECKPOINT, SIZE = "labels", "scores", "loss", "state", "checkpoint", "size"
_Rate = Annotated[float, Meta(ge=0, le=1e6)]
_Share = Annotated[float, Meta(ge=0, lt=1)]
_Parts = Annotated[tuple[Digest, ...], Meta(max_length=64)]


class Optimiser(Message, frozen=True):
    """How parameters are changed. Fields that a kind does not use keep their defaults.

    Attributes:
        kind: stochastic gradient descent, or Adam.
        rate: learning rate; a batch may give another.
        momentum: share of the last change that is kept; SGD only.
        beta1: decay of Adam's mean of gradients.
        beta2: decay of Adam's mean of squared gradients.
        epsilon: what Adam adds to its divisor.
        weight_decay: factor of the parameter that is added to its gradient.
    """

    kind: Literal["sgd", "adam"]
    rate: _Rate
    momentum: _Share = 0.0
    beta1: _Share = 0.9
    beta2: _Share = 0.999
    epsilon: _Rate = 1e-8
    weight_decay: _Rate = 0.0


class TrainingJob(Message, frozen=True):
    """What to train. It names either a network of the zoo, or an ONNX model that was sent before.

    Attributes:
        optimiser: how parameters are changed.
        name: tells jobs of a session apart that are otherwise equal.
        network: name of a network of the zoo.
        classes: number of classes of that network; 0 for as many as were published.
        resolution: height and width of its pictures; 0 for the published one.
        onnx: SHA-256 of an ONNX model; none with ``network``.
        weights: SHA-256 of each part of a safetensors file with initial weights; without it they are drawn, or those
            of the ONNX model.
        checkpoint: SHA-256 of each part of a checkpoint to go on from.
        step: the number of steps that the checkpoint has done.
        loss: what is minimised.
        seed: of the initial weights, and of whatever is drawn while training.
        state_every: the digest of the state is taken after each multiple of this number of steps; 0 for never.
    """

    optimiser: Optimiser
    name: Name = ""
    network: Name = ""
    classes: Annotated[int, Meta(ge=0, le=100_000)] = 0
    resolution: Annotated[int, Meta(ge=0, le=8192)] = 0
    onnx: Annotated[tuple[Digest, ...], Meta(max_length=1)] = ()
    weights: _Parts = ()
    checkpoint: _Parts = ()
    step: U63 = 0
    loss: Literal["cross_entropy"] = "cross_entropy"
    seed: U32 = 0
    state_every: U32 = 0

    @property
    def structure(self) -> str:
        """SHA-256 of what a checkpoint must agree with, in hexadecimal: the structure, and the kind of optimiser."""
        parts = self.network, self.classes, self.resolution, [digest.hex() for digest in self.onnx], self.optimiser.kind
        return hashlib.sha256(repr(parts).encode()).hexdigest()


def read_job(content: bytes | memoryview) -> TrainingJob:
    """Read the content of a CODE of a training job.

    Raises:
        WorkRefused: ``MODEL_REFUSED``, it is malformed or contradicts itself.
    """
    if len(content) > MESSAGE_BYTES:
        raise _refuse(f"a training job of {len(content)} bytes, the limit is {MESSAGE_BYTES}")
    try:
        job = decode(content, TrainingJob)
    except HeteeError as error:
        raise _refuse(error.detail) from None
    chosen = job.optimiser
    numbers = (chosen.rate, chosen.momentum, chosen.beta1, chosen.beta2, chosen.epsilon, chosen.weight_decay)
    if not all(map(math.isfinite, numbers)):
        raise _refuse("a number of the optimiser is not finite")
    if bool(job.network) == bool(job.onnx):
        raise _refuse("a training job names either a network of the zoo or an ONNX model")
    if job.onnx and (job.classes or job.resolution):
        raise _refuse("classes and resolution are those of the ONNX model: leave them out")
    if job.checkpoint and job.weights:
        raise _refuse("a training job begins with weights or with a checkpoint, not with both")
    if job.step and not job.checkpoint:
        raise _refuse(f"a training job that begins at step {job.step} needs a checkpoint")
    return job


def write_job(job: TrainingJob) -> bytes:
    """The content of the CODE of a training job.

    Raises:
        WorkRefused: ``MODEL_REFUSED``, a worker would refuse it.
    """
    try:
        content = encode(job)
    except OverflowError:
        raise _refuse("a number of the training job is out of range") from None
    read_job(content)
    return content


def _refuse(why: str) -> HeteeError:
    return refusal(Refusal.MODEL_REFUSED, why, "see docs/spec/wire-format.md for the fields of a training job")
