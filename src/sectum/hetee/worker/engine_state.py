"""What the threads of an engine share, and whom they tell what came of their work."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from sectum.hetee.errors import HeteeError
from sectum.hetee.worker.batch_job import BatchJob
from sectum.hetee.worker.load_job import LoadJob
from sectum.hetee.worker.models import CheckedModel
from sectum.hetee.worker.owned_accelerator import OwnedAccelerator
from sectum.hetee.worker.team import Helper


@dataclass(frozen=True)
class EngineCallbacks:
    """Functions that the accelerators' threads call.

    Attributes:
        loaded: a model is loaded, after this number of nanoseconds.
        load_refused: a model cannot be loaded.
        computed: a batch has these outputs.
        refused: a batch cannot be computed.
        released: nothing needs the batch's memory any more; called once for each batch, after the others.
    """

    loaded: Callable[[LoadJob, CheckedModel, int], None]
    load_refused: Callable[[LoadJob, HeteeError], None]
    computed: Callable[[BatchJob, dict[str, NDArray[Any]]], None]
    refused: Callable[[BatchJob, HeteeError], None]
    released: Callable[[BatchJob], None]


class EngineState:
    """The queue, the models and the accelerators of an engine.

    Attributes:
        changed: guards what follows; notified when an accelerator may find something to do.
        work: what waits, the oldest first.
        owned: accelerators by name.
        models: loaded models by SHA-256.
        homes: where each training job is.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.work: deque[BatchJob | LoadJob] = deque()
        self.owned: dict[str, OwnedAccelerator] = {}
        self.models: dict[bytes, CheckedModel] = {}
        self.homes: dict[bytes, OwnedAccelerator] = {}

    def has(self, model: CheckedModel) -> bool:
        """Whether an accelerator has a model; called with the lock."""
        return any(model.sha256 in one.loaded for one in self.owned.values())

    def enlist(
        self, owner: OwnedAccelerator, most: int, copy: Callable[[OwnedAccelerator], Callable[[], Any] | None]
    ) -> list[Helper]:
        """Let up to ``most`` other accelerators help: those of the same kind that do nothing.

        Args:
            owner: the accelerator that is helped.
            most: largest number of helpers.
            copy: makes what a helper computes with, in its thread; None if this accelerator cannot help.
        """
        helpers: list[Helper] = []
        with self.changed:
            for one in self.owned.values():
                idle = not one.busy and one.accelerator.kind == owner.accelerator.kind
                if idle and len(helpers) < most and (made := copy(one)) is not None:
                    one.busy, one.helper = True, Helper(one.accelerator.name, made)
                    helpers.append(one.helper)
            if helpers:
                self.changed.notify_all()
        return helpers
