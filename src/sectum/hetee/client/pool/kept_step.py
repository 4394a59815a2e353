"""A step that is kept until a checkpoint holds it."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from sectum.hetee.client.inputs import Inputs
from sectum.hetee.client.training import Step


@dataclass(eq=False)
class KeptStep:
    """A step since the last checkpoint, with its batch.

    Attributes:
        inputs: as for `Training.submit`, as are labels and options.
        labels: the class of each item.
        options: what else the caller gave.
        answer: gets the step or an error, once.
        answered: whether a receipt of it was verified.
        losses: number of times that a rack was lost before it answered this step.
    """

    inputs: Inputs
    labels: NDArray[Any]
    options: dict[str, Any]
    answer: Future[Step] = field(default_factory=Future)
    answered: bool = False
    losses: int = 0
