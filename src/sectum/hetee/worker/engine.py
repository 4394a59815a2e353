"""Models, accelerators, and the work that waits for them, in an accelerator's thread or that of who brings it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.worker.accelerators.protocol import Accelerator, Loaded
from sectum.hetee.worker.batch import Batch
from sectum.hetee.worker.models import Model, inspect

_TIMES_KEPT = 64


@dataclass(eq=False)
class Load:
    """A model that was received.

    Attributes:
        stream: of its CODE.
        content: the file.
        sha256: that the client named, and that ``content`` has.
        begun_ns: when its last byte was there, on `time.perf_counter_ns`.
    """

    stream: int
    content: bytes
    sha256: bytes
    begun_ns: int


@dataclass(frozen=True)
class Outcomes:
    """Who is told what came of the work, from the accelerators' threads.

    Attributes:
        loaded: a model runs, after so many nanoseconds.
        load_refused: a model does not.
        computed: a batch's outputs.
        refused: a batch that has none.
        begun: a batch is being computed, which took so many seconds the last time.
        released: nothing needs the batch's memory any more; called once for each, after the others.
    """

    loaded: Callable[[Load, Model, int], None]
    load_refused: Callable[[Load, HeteeError], None]
    computed: Callable[[Batch, dict[str, NDArray[Any]]], None]
    refused: Callable[[Batch, HeteeError], None]
    begun: Callable[[Batch, float], None]
    released: Callable[[Batch], None]


class Engine:
    """Computes what is given to it, on whatever accelerators it owns at the moment."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes
        self._changed = threading.Condition()
        self._work: deque[Batch | Load] = deque()
        self._owned: dict[str, _Owner] = {}
        self._models: dict[bytes, Model] = {}
        self._took_ns: dict[tuple[bytes, int], int] = {}  # by model and number of items; of a few only
        self.batches = self.images = self.busy_ns = 0

    @property
    def accelerators(self) -> tuple[str, ...]:
        """Names of those that it owns."""
        return tuple(self._owned)

    def model(self, sha256: bytes) -> Model | None:
        """A model that was loaded."""
        return self._models.get(sha256)

    def submit(self, work: Batch | Load, *, here: bool = False) -> None:
        """Put work at the end of the queue.

        With ``here`` a batch for which an accelerator waits is computed and answered in the caller's thread: no other
        one has to wake up first.
        """
        with self._changed:
            owner = None
            if here and not self._work:
                owner = next((one for one in self._owned.values() if not one.busy), None)
            if owner is None:
                self._work.append(work)
                self._changed.notify_all()
                return
            owner.busy = True
        assert isinstance(work, Batch)
        self._compute(owner, work)
        self._rest(owner)

    def discard(self, batch: Batch) -> bool:
        """Take a batch out of the queue; False if it is not in it. Its memory is released by the caller."""
        with self._changed:
            if batch not in self._work:
                return False
            self._work.remove(batch)
            return True

    def grant(self, accelerator: Accelerator) -> None:
        """Own one more accelerator."""
        owner = _Owner(accelerator)
        with self._changed:
            self._owned[accelerator.name] = owner
        owner.thread = threading.Thread(target=self._serve, args=(owner,), name=accelerator.name, daemon=True)
        owner.thread.start()

    def revoke(self, name: str, returned: Callable[[str, str], None]) -> None:
        """Give an accelerator back once the batch on it is computed.

        Args:
            name: of the accelerator; one that is not owned is returned at once.
            returned: is told the name, and how it was cleaned.
        """
        with self._changed:
            owner = self._owned.pop(name, None)
            if owner is not None:
                owner.returned = returned
                self._changed.notify_all()
        if owner is None:
            returned(name, "not owned")

    def close(self, seconds: float, returned: Callable[[str, str], None]) -> None:
        """Give all accelerators back, and wait for so long until they are."""
        end_s = time.monotonic() + seconds
        owners = list(self._owned.values())
        for owner in owners:
            self.revoke(owner.accelerator.name, returned)
        for owner in owners:
            owner.thread.join(max(0.0, end_s - time.monotonic()))

    def _serve(self, owner: _Owner) -> None:
        while True:
            with self._changed:
                while owner.busy or not (self._work or owner.returned is not None):
                    self._changed.wait()
                if owner.returned is not None:
                    break
                work, owner.busy = self._work.popleft(), True
            if isinstance(work, Load):
                self._load(owner, work)
            else:
                self._compute(owner, work)
            del work  # a batch's memory must not wait for the next one
            self._rest(owner)
        owner.loaded.clear()
        owner.returned(owner.accelerator.name, owner.accelerator.reset())

    def _rest(self, owner: _Owner) -> None:
        with self._changed:
            owner.busy = False
            if self._work or owner.returned is not None:
                self._changed.notify_all()

    def _load(self, owner: _Owner, load: Load) -> None:
        try:
            model = self._models.get(load.sha256) or inspect(load.content)
            owner.load(model)
        except HeteeError as error:
            self._outcomes.load_refused(load, error)
        except MemoryError:
            self._outcomes.load_refused(
                load, refusal(Refusal.MODEL_REFUSED, "the model needs more memory than there is")
            )
        else:
            self._models[load.sha256] = model
            self._outcomes.loaded(load, model, time.perf_counter_ns() - load.begun_ns)

    def _compute(self, owner: _Owner, batch: Batch) -> None:
        begun_ns = time.perf_counter_ns()
        try:
            if not batch.answered:
                alike = batch.message.model, batch.items
                if alike in self._took_ns:
                    self._outcomes.begun(batch, self._took_ns[alike] / 1e9)
                outputs = self._run(owner, batch)
                self.batches += 1
                self.images += batch.items
                batch.times_ns["compute"] = took_ns = time.perf_counter_ns() - begun_ns
                if len(self._took_ns) >= _TIMES_KEPT:
                    self._took_ns.clear()
                self._took_ns[alike] = took_ns
                self._outcomes.computed(batch, outputs)
        except HeteeError as error:
            self._outcomes.refused(batch, error)
        except MemoryError:
            self._outcomes.refused(batch, refusal(Refusal.COMPUTE_FAILED, "the batch needs more memory than there is"))
        self.busy_ns += time.perf_counter_ns() - begun_ns
        self._outcomes.released(batch)

    @staticmethod
    def _run(owner: _Owner, batch: Batch) -> dict[str, NDArray[Any]]:
        model, preparation = batch.model, batch.preparation
        assert model is not None
        assert preparation is not None
        if batch.pace is not None and not owner.accelerator.paced:
            raise refusal(Refusal.INPUT_REFUSED, f"{owner.accelerator.name} computes: a batch for it has no pace")
        names = batch.message.outputs or tuple(slot.name for slot in model.outputs)
        outputs = owner.load(model).run(preparation.arrays, names, batch.stop, batch.pace)
        return dict(zip(names, outputs, strict=True))


class _Owner:
    """An accelerator, and what is on it."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.loaded: dict[bytes, Loaded] = {}
        self.busy = False  # whether some thread computes on it; guarded by the engine's lock, as is what follows
        self.returned: Callable[[str, str], None] | None = None
        self.thread: threading.Thread

    def load(self, model: Model) -> Loaded:
        if model.sha256 not in self.loaded:
            self.loaded[model.sha256] = self.accelerator.load(model)
        return self.loaded[model.sha256]
