"""A training job that was received and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sectum.errors import SectumError
from sectum.hetee.data_plane.messages import BatchOpening, Slot, Work
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.training.exchange import GIVEN, GRADIENTS
from sectum.hetee.training.job import CHECKPOINT, LABELS, LOSS, SCORES, SIZE, STATE, TrainingJob, read_job
from sectum.hetee.training.tensor_file import TensorFile, joined, read_tensors
from sectum.hetee.worker.lane import Lane
from sectum.hetee.worker.models import CheckedModel, batch_refused
from sectum.hetee.worker.training.gradient_exchange import GradientExchange

_OUTPUTS = (
    Slot(name=LOSS, dtype="float32", shape=()),
    Slot(name=STATE, dtype="uint8", shape=("?",)),
    Slot(name=SCORES, dtype="float32", shape=("N", "?")),
    Slot(name=CHECKPOINT, dtype="uint8", shape=("?",)),
    Slot(name=SIZE, dtype="int64", shape=()),
    Slot(name=GRADIENTS, dtype="uint8", shape=("?",)),
)


@dataclass(frozen=True)
class CheckedWeights(CheckedModel):
    """A safetensors file: a job may name it."""

    def __repr__(self) -> str:
        return f"Weights({self.sha256.hex()[:16]}, {len(self.content)} bytes)"


def inspect_weights(content: bytes, sha256: bytes) -> CheckedWeights:
    """Keep a part of a safetensors file; the whole file is read when a job names its parts."""
    return CheckedWeights(content, sha256, (), ())


@dataclass(frozen=True, eq=False, repr=False)
class CheckedJob(CheckedModel):
    """A job, with the model that it names, and until it has begun the weights.

    Attributes:
        job: its description.
        sources: models and weights by their SHA-256; the weights are dropped when the job has begun.
        lane: order of its batches.
        parked: its state as a checkpoint while it is on no accelerator; empty before it has begun, and while it is on
            one.
        joined: its exchange of gradients with other workers, if it has joined them.
    """

    job: TrainingJob
    sources: dict[bytes, CheckedModel]
    lane: Lane[Any] = field(default_factory=Lane)
    parked: list[TensorFile] = field(default_factory=list)
    joined: list[GradientExchange] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Job({self.sha256.hex()[:16]})"

    @property
    def splits(self) -> bool:
        """Whether its batches may have any number of items, so that several accelerators can share one."""
        return not isinstance(self.inputs[0].shape[0], int)

    def takes(self, message: BatchOpening) -> tuple[tuple[Slot, ...], tuple[str, ...]]:
        """The inputs that a batch must give, and the outputs that it gets.

        Raises:
            WorkRefused: ``INPUT_REFUSED``.
        """
        if not message.work or message.outputs or message.split:
            detail = "a batch of a training job says what to do with it, names no outputs, and is not asked to be split"
            raise batch_refused(detail)
        work = message.work[0]
        if work.kind not in ("train", "apply") and work.rate:
            raise batch_refused("only a batch that trains has a learning rate")
        if work.kind not in ("checkpoint", "gradients", "apply") and work.begin:
            raise batch_refused("only a request for a checkpoint, and blocks of gradients, name where they begin")
        if work.kind not in ("gradients", "apply") and (work.round or work.shares):
            raise batch_refused("only an exchange of gradients has rounds and shares")
        membership, blocks = GIVEN
        return {
            "train": (self.inputs, (LOSS, STATE)),
            "score": (self.inputs[:1], (SCORES,)),
            "checkpoint": ((), (CHECKPOINT, SIZE, STATE)),
            "join": ((membership,), (STATE,)),
            "gradients": (() if work.begin else self.inputs, (GRADIENTS, SIZE)),
            "apply": ((blocks,), (LOSS, STATE)),
        }[work.kind]

    @property
    def exchange(self) -> GradientExchange:
        """Its exchange of gradients.

        Raises:
            WorkRefused: ``INPUT_REFUSED``, it has joined no other workers.
        """
        if not self.joined:
            raise batch_refused("the job has joined no other workers: send 'join' first")
        return self.joined[0]

    def file(self, digests: tuple[bytes, ...]) -> bytes | memoryview:
        """The content of a file that the job names in parts."""
        return joined([self.sources[digest].content for digest in digests])


def inspect_job(content: bytes, sha256: bytes, loaded: Mapping[bytes, CheckedModel]) -> CheckedJob:
    """Check a job against what was sent before it.

    Raises:
        WorkRefused: ``MODEL_REFUSED``, it is malformed; ``NO_MODEL``, it names something that is not loaded.
    """
    job = read_job(content)
    sources = {}
    for kind, digests in ((CheckedModel, job.onnx), (CheckedWeights, (*job.weights, *job.checkpoint))):
        for digest in digests:
            if type(loaded.get(digest)) is not kind:
                what = "model" if kind is CheckedModel else "safetensors file"
                raise refusal(Refusal.NO_MODEL, f"the job names a {what} {digest.hex()[:16]}... that is not loaded")
            sources[digest] = loaded[digest]
    if job.onnx:
        slots = sources[job.onnx[0]].inputs
        if len(slots) != 1 or slots[0].dtype != "float32" or slots[0].name == LABELS:
            raise refusal(Refusal.MODEL_REFUSED, f"a model to train has one float32 input, not named '{LABELS}'")
        pictures = slots[0]
    else:
        pictures = _of_zoo(job)
    if job.checkpoint or job.weights:  # before the job is accepted, not in its first batch
        read_tensors(joined([sources[digest].content for digest in (*job.checkpoint, *job.weights)]))
    labels = Slot(name=LABELS, dtype="int64", shape=("N",))
    return CheckedJob(content, sha256, (pictures, labels), _OUTPUTS, job, sources)


def _of_zoo(job: TrainingJob) -> Slot:
    try:
        from sectum.hetee.worker.training.zoo_network import architecture
    except ImportError:
        detail = "this worker has no software for training: the rack was started without --training"
        raise refusal(Refusal.MODEL_REFUSED, detail) from None
    try:
        arch = architecture(job)
    except SectumError as error:
        raise refusal(Refusal.MODEL_REFUSED, str(error)[:500]) from None
    return Slot(name="input", dtype="float32", shape=("N", *arch.shapes[0]))


def begins(work: Work, done: int) -> None:
    """Check that this is the work that comes after ``done`` steps.

    Raises:
        WorkRefused: ``INPUT_REFUSED``.
    """
    due = done + (work.kind in ("train", "gradients", "apply"))
    if work.step != due:
        raise batch_refused(f"the batch is for step {work.step}, but the job has done {done} steps; expected {due}")
