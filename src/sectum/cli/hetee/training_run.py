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

from sectum.cli.hetee.training_data import Data, load
from sectum.cli.render.progress import Progress
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.hetee.client import Session
    from sectum.hetee.client.checkpoint import Checkpoint
    from sectum.hetee.client.pool import PoolSession, PoolTraining
    from sectum.hetee.client.training import Step, Training
    from sectum.hetee.training.job import TrainingJob

_IN_FLIGHT = 4
_SCORED = 256
_RATES = {"sgd": 0.05, "adam": 0.001}
_SIDE = 32  # of the pictures for a network of the zoo, unless the options say otherwise


@dataclass(frozen=True)
class Prepared:
    """What is trained, on what.

    Attributes:
        name: the network, as the user calls it.
        job: the job, without digests of files.
        onnx: the ONNX model; None for a network of the zoo.
        weights: a safetensors file; None for none.
        checkpoint: where to go on; None to begin.
        data: the pictures.
        batch: pictures in a batch.
        epochs: passes over the data, from the beginning.
        seed: of the order.
    """

    name: str
    job: TrainingJob
    onnx: bytes | None
    weights: bytes | None
    checkpoint: Checkpoint | None
    data: Data
    batch: int
    epochs: int
    seed: int

    @property
    def steps_of_one(self) -> int:
        """The number of steps of one pass."""
        return -(-len(self.data.labels) // self.batch)

    @property
    def smallest(self) -> int:
        """The number of pictures of the smallest batch: the last one of a pass."""
        return len(self.data.labels) - (self.steps_of_one - 1) * self.batch

    def batches(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64], bool]]:
        """The batches that are left, each with whether it ends a pass. Their order depends on seed and pass only."""
        begun = self.checkpoint.step if self.checkpoint else 0
        for epoch in range(begun // self.steps_of_one, self.epochs):
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.data.labels))
            first = max(begun - epoch * self.steps_of_one, 0)
            for number in range(first, self.steps_of_one):
                part = order[number * self.batch : (number + 1) * self.batch]
                yield self.data.images[part], self.data.labels[part], number == self.steps_of_one - 1


@dataclass
class Run:
    """A training that was run.

    Attributes:
        name: the network.
        begun: number of steps before it.
        losses: the loss of each batch.
        accuracies: share of the held-out pictures that are told apart, after each pass.
        ends: number of steps after each pass, counted from ``begun``.
        state: SHA-256 of the state after it, in hexadecimal.
        accelerators: largest number that shared a step, by the receipts.
        racks: largest number of racks that did a step together, by the receipts.
    """

    name: str
    begun: int = 0
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    state: str = ""
    accelerators: int = 1
    racks: int = 1

    def equals(self, other: Run) -> bool:
        """Whether it has the losses of another run: bit for bit; if accelerators shared steps, to 1 % of their mean."""
        if max(self.accelerators, other.accelerators) == 1:
            return self.losses == other.losses
        return len(self.losses) == len(other.losses) and bool(
            np.allclose(self.losses, other.losses, rtol=0.01, atol=0.01 * np.mean(other.losses))
        )

    def passes(self) -> Iterator[tuple[int, float, float]]:
        """The number of each pass, its mean loss, and the accuracy after it."""
        for number, (begin, end) in enumerate(zip((0, *self.ends), self.ends, strict=False), 1):
            yield number, float(np.mean(self.losses[begin:end])), self.accuracies[number - 1]

    def json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "network": self.name,
            "first_step": self.begun + 1,
            "losses": self.losses,
            "accuracies": self.accuracies,
            "passes_end_at": [self.begun + end for end in self.ends],
            "state_sha256": self.state,
            "accelerators": self.accelerators,
            "racks_together": self.racks,
        }


def prepare(network: str, options: dict[str, Any]) -> Prepared:
    """Read the files that the options name.

    Raises:
        UsageError: a file or a network does not exist, or does not fit.
    """
    from sectum.hetee.client.checkpoint import Checkpoint
    from sectum.hetee.client.small_networks import NAMES, small_network
    from sectum.hetee.training.job import Optimiser, TrainingJob

    of_zoo = network.startswith("zoo:")
    resolution = options["resolution"] or (_SIDE if of_zoo else 0)
    data = load(options["data"], options["seed"], 3 if of_zoo else 0, resolution)
    kind, seed = options["optimiser"], options["seed"]
    optimiser = Optimiser(
        kind=kind,
        rate=options["rate"] or _RATES[kind],
        momentum=options["momentum"] if kind == "sgd" else 0.0,
        weight_decay=options["weight_decay"],
    )
    onnx = None
    if of_zoo:
        job = TrainingJob(
            optimiser=optimiser,
            network=network.removeprefix("zoo:"),
            classes=max(data.classes, 2),
            resolution=resolution,
            seed=seed,
        )
    else:
        job = TrainingJob(optimiser=optimiser, seed=seed, onnx=(bytes(32),))
        shape = data.images.shape[1:]
        onnx = small_network(network, shape, data.classes, seed) if network in NAMES else _read(Path(network))
    weights = _read(options["weights"]) if options["weights"] else None
    checkpoint = Checkpoint.read(_read(options["resume"])) if options["resume"] else None
    if weights is not None and checkpoint is not None:
        raise UsageError("--weights and --resume contradict each other: a checkpoint has its weights")
    work = Prepared(network, job, onnx, weights, checkpoint, data, options["batch"], options["epochs"], options["seed"])
    total = work.steps_of_one * work.epochs
    if checkpoint is not None and checkpoint.step >= total:
        raise UsageError(f"the checkpoint has done {checkpoint.step} steps, {total} were asked for: give more --epochs")
    return work


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        meant = "; write zoo:NAME for a network of the zoo, or mlp or cnn" if not path.suffix else ""
        raise UsageError(f"'{path}' cannot be read: {error.strerror or error}{meant}") from None


def _accuracy(score: Callable[[NDArray[np.float32]], NDArray[np.float32]], data: Data) -> float:
    parts = [score(data.held_out[at : at + _SCORED]) for at in range(0, len(data.held_out), _SCORED)]
    return float((np.concatenate(parts).argmax(1) == data.held_out_labels).mean())


def run_inside(session: Session | PoolSession, work: Prepared, options: dict[str, Any], progress: Progress) -> Run:
    """Train in the enclave of a session, or in those of several racks of a pool, and check each receipt.

    Args:
        session: an open session.
        work: what to train.
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
    run = Run(work.name, training.done)
    waiting: deque[Any] = deque()
    total = work.steps_of_one * work.epochs

    def take() -> None:
        step: Step = waiting.popleft().result()
        # Waits for the receipts; one that is not genuine ends the session.
        shared = [part.receipt.accelerator.count(",") + 1 for part in (step.result, *step.others)]
        run.accelerators, run.racks = max(run.accelerators, sum(shared)), max(run.racks, len(shared))
        run.losses.append(step.loss)
        progress(f"step {step.number} of {total}, loss {step.loss:.4f}", step.number / total)
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
    run.state = training.checkpoint().sha256.hex()
    training.end()
    return run


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
    done = work.checkpoint.step if work.checkpoint else 0
    run, total = Run(work.name, done), work.steps_of_one * work.epochs

    def do(kind: Any, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        step = run.begun + len(run.losses) + (kind == "train")
        return trainer.run(Work(kind=kind, step=step), arrays, Stop(), lambda: None)

    for images, labels, last in work.batches():
        run.losses.append(float(do("train", {pictures: images, LABELS: labels})[LOSS]))
        progress(f"outside: step {run.begun + len(run.losses)} of {total}", (run.begun + len(run.losses)) / total)
        if last:
            run.accuracies.append(_accuracy(lambda part: do("score", {pictures: part})[SCORES], work.data))
            run.ends.append(len(run.losses))
    run.state = hashlib.sha256(do("checkpoint", {})[CHECKPOINT].tobytes()).hexdigest()
    return run
