"""The state of a training job, as its owner gets and keeps it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.hetee.client.results import Result
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.training.tensor_file import read_tensors

_MODEL = "model."
_DTYPES = {"F32": "<f4", "I64": "<i8"}


@dataclass(frozen=True)
class Checkpoint:
    """The state of a job after a step.

    Attributes:
        content: a safetensors file: ``model.NAME`` for each parameter and statistic, ``optimiser.NAME`` for the rest.
        step: number of steps that it has done.
        results: the answers that it came in, each with its receipt.
    """

    content: bytes
    step: int
    results: tuple[Result, ...] = ()

    @classmethod
    def read(cls, content: bytes) -> Checkpoint:
        """A checkpoint from a file.

        Raises:
            WorkRefused: ``MODEL_REFUSED``, it is none.
        """
        step = read_tensors(content).about.get("step", "")
        if not step.isdecimal() or len(step) > 18:
            raise refusal(Refusal.MODEL_REFUSED, "the file is no checkpoint of a training job")
        return cls(content, int(step))

    @property
    def sha256(self) -> bytes:
        """SHA-256 of its content, which receipts name."""
        return hashlib.sha256(self.content).digest()

    def weights(self) -> dict[str, NDArray[Any]]:
        """Parameters and statistics of the network, by name."""
        return {
            name.removeprefix(_MODEL): np.frombuffer(stored.data, _DTYPES[stored.dtype]).reshape(stored.shape)
            for name, stored in read_tensors(self.content).tensors.items()
            if name.startswith(_MODEL)
        }
