"""What tests of training share: jobs, the digits, and the same training with plain PyTorch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.hetee.data_plane.messages import Work
from sectum.hetee.training.job import LABELS, Optimiser, TrainingJob, write_job
from sectum.hetee.worker.accelerators.protocol import Stop
from sectum.hetee.worker.models import CheckedModel
from sectum.hetee.worker.training.checked_job import CheckedJob, inspect_job

SGD = Optimiser(kind="sgd", rate=0.05, momentum=0.9, weight_decay=1e-4)
ADAM = Optimiser(kind="adam", rate=1e-3)
SMALL = TrainingJob(optimiser=SGD, network="squeezenet1_1", classes=3, resolution=32, seed=5)
BATCH = 4


def batches(count: int, side: int = 32, classes: int = 3) -> list[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Batches of random pictures with labels."""
    rng = np.random.default_rng(11)
    return [
        (rng.standard_normal((BATCH, 3, side, side), np.float32), rng.integers(0, classes, BATCH)) for _ in range(count)
    ]


def checked(job: TrainingJob, *sources: CheckedModel) -> CheckedJob:
    """A job as a worker keeps it."""
    content = write_job(job)
    return inspect_job(content, hashlib.sha256(content).digest(), {source.sha256: source for source in sources})


def changed(job: TrainingJob, **fields: Any) -> TrainingJob:
    """A job with other fields."""
    return TrainingJob(**({name: getattr(job, name) for name in job.__struct_fields__} | fields))


def run(
    trainer: Any, work: Work, pictures: Any = None, labels: Any = None, *, name: str = "input"
) -> dict[str, NDArray[Any]]:
    """Let a trainer do something with a batch."""
    arrays = {} if pictures is None else {name: pictures}
    return trainer.run(work, arrays if labels is None else arrays | {LABELS: labels}, Stop(), lambda: None)


def losses(trainer: Any, data: list[tuple[Any, Any]], begin: int = 0, *, name: str = "input") -> list[float]:
    """Train with these batches after ``begin`` steps."""
    return [
        float(run(trainer, Work(kind="train", step=step), *batch, name=name)["loss"])
        for step, batch in enumerate(data, begin + 1)
    ]


def plainly(job: TrainingJob, module: Any, data: list[tuple[Any, Any]]) -> Iterator[float]:
    """Train a module in the usual way, with `torch.optim`: the losses."""
    import torch

    chosen = job.optimiser
    make: Callable[..., Any]
    if chosen.kind == "sgd":
        make = torch.optim.SGD(module.parameters(), chosen.rate, chosen.momentum, weight_decay=chosen.weight_decay)
    else:
        betas = chosen.beta1, chosen.beta2
        make = torch.optim.Adam(module.parameters(), chosen.rate, betas, chosen.epsilon, chosen.weight_decay)
    module.train()
    for pictures, labels in data:
        loss = torch.nn.functional.cross_entropy(module(torch.from_numpy(pictures)), torch.from_numpy(labels))
        make.zero_grad()
        loss.backward()
        make.step()
        yield float(loss.detach())
