"""Trains in an enclave and outside: the same batches in the same order, with the same job."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sectum.cli.hetee.prepared_training import Prepared
from sectum.cli.hetee.training_data import Data
from sectum.cli.render.progress import Progress

if TYPE_CHECKING:
    from sectum.hetee.client import Session
    from sectum.hetee.client.pool import PoolSession, PoolTraining
    from sectum.hetee.client.training import Step, Training

_IN_FLIGHT = 4
_SCORED = 256


@dataclass
class Run:
    """A training that was run.

    Attributes:
        name: the network.
        begun: number of steps before it.
        first_pass: number of its first pass, from 1.
        total: number of steps after which it is done, with those before it.
        losses: the loss of each batch.
        accuracies: share of the held-out pictures that are told apart, after each pass.
        ends: number of steps after each pass, counted from ``begun``.
        saved: number of steps that the checkpoint on disk has done; 0 if none was written.
        state: SHA-256 of the state after it, in hexadecimal.
        accelerators: largest number that shared a step, by the receipts.
        racks: largest number of racks that did a step together, by the receipts.
    """

    name: str
    begun: int = 0
    first_pass: int = 1
    total: int = 0
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    saved: int = 0
    state: str = ""
    accelerators: int = 1
    racks: int = 1

    @classmethod
    def of(cls, work: Prepared) -> Run:
        """A run of what was prepared, that has done nothing yet."""
        begun = work.checkpoint.step if work.checkpoint else 0
        return cls(work.name, begun, begun // work.steps_of_one + 1, work.steps_of_one * work.epochs)

    def equals(self, other: Run) -> bool:
        """Whether it has the losses of another run: bit for bit; if accelerators shared steps, to 1 % of their mean."""
        if max(self.accelerators, other.accelerators) == 1:
            return self.losses == other.losses
        return len(self.losses) == len(other.losses) and bool(
            np.allclose(self.losses, other.losses, rtol=0.01, atol=0.01 * np.mean(other.losses))
        )

    def passes(self) -> Iterator[tuple[int, float, float]]:
        """The number of each pass, its mean loss, and the accuracy after it."""
        for at, (begin, end) in enumerate(zip((0, *self.ends), self.ends, strict=False)):
            yield self.first_pass + at, float(np.mean(self.losses[begin:end])), self.accuracies[at]

    def json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "network": self.name,
            "first_step": self.begun + 1,
            "first_pass": self.first_pass,
            "losses": self.losses,
            "accuracies": self.accuracies,
            "passes_end_at": [self.begun + end for end in self.ends],
            "state_sha256": self.state,
            "accelerators": self.accelerators,
            "racks_together": self.racks,
        }


def _accuracy(score: Callable[[NDArray[np.float32]], NDArray[np.float32]], data: Data) -> float:
    parts = [score(data.held_out[at : at + _SCORED]) for at in range(0, len(data.held_out), _SCORED)]
    return float((np.concatenate(parts).argmax(1) == data.held_out_labels).mean())


def run_inside(
    session: Session | PoolSession, work: Prepared, run: Run, options: dict[str, Any], progress: Progress
) -> None:
    """Train in the enclave of a session, or in those of several racks of a pool, and check each receipt.

    Args:
        session: an open session.
        work: what to train.
        run: a new run of it, which gets what is reached, also if this ends with an error.
        options: of the command: ``checkpoint``, a file that gets one after each pass, or None; ``receipts``, a folder
            that gets the receipt of each step, or None; ``together``, the number of racks.
        progress: is told how far it is.
    """
    from sectum.cli.render.output import write_file
    from sectum.hetee.client.pool import PoolSession

    sources: dict[str, Any] = {"onnx": work.onnx, "weights": work.weights, "checkpoint": work.checkpoint}
    checkpoint, receipts, together = options["checkpoint"], options["receipts"], options["together"]
    if isinstance(session, PoolSession):
        training: PoolTraining | Training = session.train(work.job, racks=together, **sources)
    else:
        training = session.train(work.job, **sources)
    waiting: deque[Any] = deque()

    def take() -> None:
        step: Step = waiting.popleft().result()
        # Waits for the receipts; one that is not genuine ends the session.
        shared = [part.receipt.accelerator.count(",") + 1 for part in (step.result, *step.others)]
        run.accelerators, run.racks = max(run.accelerators, sum(shared)), max(run.racks, len(shared))
        run.losses.append(step.loss)
        progress(f"step {step.number} of {run.total}, loss {step.loss:.4f}", step.number / run.total)
        if receipts is not None:
            _save(session, step, receipts)

    for images, labels, last in work.batches():
        waiting.append(training.submit(images, labels))
        while waiting and (last or len(waiting) >= _IN_FLIGHT):
            take()
        if last:
            run.accuracies.append(_accuracy(training.scores, work.data))
            run.ends.append(len(run.losses))
            if checkpoint is not None:
                write_file(checkpoint, training.checkpoint().content)
                run.saved = run.begun + len(run.losses)
    run.state = training.checkpoint().sha256.hex()
    training.end()


def _save(session: Session | PoolSession, step: Step, folder: Path) -> None:
    import msgspec

    from sectum.cli.hetee.infer import archive
    from sectum.cli.render.output import write_file

    folder.mkdir(parents=True, exist_ok=True)
    for number, result in enumerate((step.result, *step.others)):
        name = f"step-{step.number}" + (f"-rack-{number + 1}" if step.others else "")
        write_file(folder / f"{name}.json", msgspec.json.encode(session.bundle(result)) + b"\n")
        write_file(folder / f"{name}.npz", archive([result]))


def outside(work: Prepared, progress: Progress) -> Run:
    """Train in this process, with one thread: the worker's code without enclave, sockets and sealing."""
    from sectum.hetee.data_plane.messages import Work
    from sectum.hetee.training.job import CHECKPOINT, LABELS, LOSS, SCORES, TrainingJob, write_job
    from sectum.hetee.worker.accelerators.protocol import Stop
    from sectum.hetee.worker.accelerators.pytorch.trainer import Trainer, settle
    from sectum.hetee.worker.models import CheckedModel, inspect
    from sectum.hetee.worker.training.checked_job import inspect_job, inspect_weights

    settle(1)
    loaded: dict[bytes, CheckedModel] = {}
    changes: dict[str, Any] = {}
    for name, content in (
        ("onnx", work.onnx),
        ("weights", work.weights),
        ("checkpoint", work.checkpoint.content if work.checkpoint else None),
    ):
        if content is not None:
            digest = hashlib.sha256(content).digest()
            loaded[digest] = inspect(content) if name == "onnx" else inspect_weights(content, digest)
            changes[name] = (digest,)
    if work.checkpoint is not None:
        changes["step"] = work.checkpoint.step
    values = {name: getattr(work.job, name) for name in work.job.__struct_fields__}
    content = write_job(TrainingJob(**(values | changes)))
    job = inspect_job(content, hashlib.sha256(content).digest(), loaded)
    trainer = Trainer(job, lambda _trainer: None)
    pictures = job.inputs[0].name
    run = Run.of(work)

    def do(kind: Any, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        step = run.begun + len(run.losses) + (kind == "train")
        return trainer.run(Work(kind=kind, step=step), arrays, Stop(), lambda: None)

    for images, labels, last in work.batches():
        run.losses.append(float(do("train", {pictures: images, LABELS: labels})[LOSS]))
        done = run.begun + len(run.losses)
        progress(f"outside: step {done} of {run.total}", done / run.total)
        if last:
            run.accuracies.append(_accuracy(lambda part: do("score", {pictures: part})[SCORES], work.data))
            run.ends.append(len(run.losses))
    run.state = hashlib.sha256(do("checkpoint", {})[CHECKPOINT].tobytes()).hexdigest()
    return run
