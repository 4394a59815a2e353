"""Prepares a training: reads the files that the options name, and divides the data into batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sectum.cli.hetee.training_data import Data, load
from sectum.errors import UsageError

if TYPE_CHECKING:
    from sectum.hetee.client.checkpoint import Checkpoint
    from sectum.hetee.training.job import TrainingJob

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


def prepare(network: str, options: dict[str, Any]) -> Prepared:
    """Read the files that the options name.

    Raises:
        UsageError: a file or a network does not exist, or does not fit.
    """
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
    checkpoint = _checkpoint(options["resume"]) if options["resume"] else None
    if weights is not None and checkpoint is not None:
        raise UsageError("--weights and --resume contradict each other: a checkpoint has its weights")
    work = Prepared(network, job, onnx, weights, checkpoint, data, options["batch"], options["epochs"], options["seed"])
    total = work.steps_of_one * work.epochs
    if checkpoint is not None and checkpoint.step >= total:
        raise UsageError(f"the checkpoint has done {checkpoint.step} steps, {total} were asked for: give more --epochs")
    return work


def _checkpoint(path: Path) -> Checkpoint:
    from sectum.hetee.client.checkpoint import Checkpoint
    from sectum.hetee.errors import WorkRefused

    try:
        return Checkpoint.read(_read(path))
    except WorkRefused as error:
        raise UsageError(f"'{path}' is no checkpoint of 'sectum hetee train --checkpoint': {error.detail}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        meant = "; write zoo:NAME for a network of the zoo, or mlp or cnn" if not path.suffix else ""
        raise UsageError(f"'{path}' cannot be read: {error.strerror or error}{meant}") from None
