"""A session over the racks of a pool: each is verified by itself, and batches are spread over them."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from sectum.hetee.client.bundle import ReceiptBundle
from sectum.hetee.client.checkpoint import Checkpoint
from sectum.hetee.client.inputs import Inputs
from sectum.hetee.client.model_file import read_model
from sectum.hetee.client.pool.board import Board, RackResult, Task
from sectum.hetee.client.pool.connector import Connector
from sectum.hetee.client.pool.lane import Lane, RackReport
from sectum.hetee.client.pool.training import PoolTraining
from sectum.hetee.client.pool.training_racks import Move
from sectum.hetee.client.results import LoadedModel, Result
from sectum.hetee.errors import CleaningUnproven, HeteeError, Refusal, refusal
from sectum.hetee.training.job import TrainingJob

Racks = Sequence[str] | Callable[[], Sequence[str]]
"""Addresses of racks, or a function that names them; it is asked again while the session is open."""
MOST_RACKS = 256
_WAITING = 64
_ASKED_EVERY_S = 2.0


class PoolSession:
    """A session over several racks; `connect_pool` makes it. Thread-safe.

    Each rack attests itself and has keys of its own. A batch whose rack is lost goes to another one. Its caller gets
    one answer, with the receipt of the rack that gave it.
    """

    def __init__(self, racks: Racks, connector: Connector) -> None:
        self._connector, self._board = connector, Board()
        self._lanes: dict[str, Lane] = {}
        self._model: bytes | None = None
        self._sent = 0
        self._trainings: list[PoolTraining] = []
        self._over = threading.Event()
        self._racks: Callable[[], Sequence[str]] = racks if callable(racks) else lambda: racks
        self._urls = list(dict.fromkeys(self._racks()))[:MOST_RACKS]
        if not self._urls:
            raise refusal(Refusal.HOST_LOST, "the pool has no rack", "start one, or ask again later")
        if callable(racks):
            threading.Thread(target=self._watch, name="sectum-pool", daemon=True).start()

    def __enter__(self) -> PoolSession:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            with suppress(HeteeError):  # the error in the block matters more
                self.close(0)

    @property
    def racks(self) -> tuple[RackReport, ...]:
        """The racks that were used so far, in the order in which they were named."""
        reports = [lane.report() for lane in list(self._lanes.values())]
        return (*reports, *(report for training in self._trainings for report in training.racks))

    @property
    def moves(self) -> tuple[Move, ...]:
        """How training moved from rack to rack."""
        return tuple(move for training in self._trainings for move in training.moves)

    # --- racks ---

    def _watch(self) -> None:
        while not self._over.wait(_ASKED_EVERY_S):
            with suppress(HeteeError):  # who names the racks is not there now; those that are known go on
                found = list(self._racks())
                with self._board.changed:
                    self._urls = list(dict.fromkeys([*self._urls, *found]))[:MOST_RACKS]
                if self._lanes:
                    self._open_lanes()

    def _open_lanes(self) -> None:
        room = 2 * self._connector.count
        with self._board.changed:
            for url in self._urls:
                if url not in self._lanes and not self._board.closed:
                    self._lanes[url] = Lane(url, self._board, self._connector, self._claim, self._lost, room)

    def _claim(self, lane: Lane, device: bytes) -> bool:
        """Give a machine to a lane, unless another has it: two addresses of one rack are no second rack."""
        with self._board.changed:
            if any(other.device == device for other in self._lanes.values() if other is not lane):
                return False
            lane.device = device
            return True

    def _lost(self, error: HeteeError) -> None:
        """A rack was lost or refused: if none is left, refuse what waits."""
        if self._hopeless():
            self._board.refuse_all(self._none_left(error))

    def _hopeless(self) -> bool:
        with self._board.changed:
            states = {lane.state for lane in self._lanes.values()}
            late = time.monotonic() - self._board.served_s > self._connector.wait_s
            return states <= {"refused"} or (late and states <= {"refused", "lost"})

    def _none_left(self, error: HeteeError) -> HeteeError:
        reasons = [f"{lane.url}: {lane.error.detail}" for lane in self._lanes.values() if lane.error is not None]
        return refusal(error.code, f"no rack of the pool serves: {'; '.join(reasons)}")

    # --- models and batches ---

    def load(self, model: str | Path | bytes, *, timeout_s: float = 120.0) -> LoadedModel:
        """Send a model to every rack; returns when the first one has it. The others join in when they have it.

        Args:
            model: path of an ONNX file, or its bytes.
            timeout_s: time limit.

        Raises:
            WorkRefused: the model cannot be loaded.
            HeteeError: no rack serves, with the reason of each.
        """
        content = model if isinstance(model, bytes) else read_model(model)
        digest, board = hashlib.sha256(content).digest(), self._board

        def first() -> LoadedModel | None:
            for lane in self._lanes.values():
                if digest in lane.bad_models:
                    raise lane.bad_models[digest]
                if digest in lane.loaded:
                    return lane.loaded[digest]
            failed = [lane.error for lane in self._lanes.values() if lane.error is not None]
            if len(failed) == len(self._lanes):
                raise self._none_left(failed[-1])
            return None

        self._open_lanes()
        with board.changed:
            board.models[digest] = content
            board.served_s = time.monotonic()
            board.changed.notify_all()
            try:
                found = board.changed.wait_for(first, timeout_s)
            except HeteeError:
                del board.models[digest]
                raise
        if found is None:
            raise refusal(Refusal.BUSY, f"no rack loaded the model within {timeout_s:g} s")
        self._model = digest
        return found

    def submit(self, inputs: Inputs, *, model: LoadedModel | None = None, **options: Any) -> Future[RackResult]:
        """Have a rack compute a batch. Blocks while many batches wait for a rack.

        Args:
            inputs: as for `Session.submit`. They are kept until the batch is answered.
            model: a model that was loaded; None for the last one.
            options: ``pixels``, ``outputs``, ``deadline_ms`` and ``pace``, as for `Session.submit`.

        Returns:
            A future that gets the result when its receipt was verified.

        Raises:
            WorkRefused: ``NO_MODEL``.
            HeteeError: no rack serves. Later errors are raised by the future.
        """
        digest, board = self._model if model is None else model.digest, self._board
        if digest not in board.models or digest is None:
            raise refusal(Refusal.NO_MODEL, "no such model was loaded")
        with board.changed:
            board.changed.wait_for(lambda: board.closed or len(board) < _WAITING or self._hopeless())
            if board.closed:
                raise refusal(Refusal.WIPED, "the session was closed")
            if self._hopeless():
                raise self._none_left(next(lane.error for lane in self._lanes.values() if lane.error is not None))
            task = Task(self._sent, digest, inputs, options, Future())
            task.answer.set_running_or_notify_cancel()
            self._sent += 1
            board.put(task)
        return task.answer

    def infer(self, inputs: Inputs, **options: Any) -> RackResult:
        """Have a rack compute a batch, and wait for its answer."""
        return self.submit(inputs, **options).result()

    def bundle(self, result: Result) -> ReceiptBundle:
        """The receipt of a result with all that is needed to check it later, as `Session.bundle`."""
        if not isinstance(result, RackResult) or result.session is None:
            raise TypeError("the result is not of a pool")
        return result.session.bundle(result)

    def train(
        self,
        job: TrainingJob,
        *,
        onnx: bytes | None = None,
        weights: bytes | None = None,
        checkpoint: Checkpoint | None = None,
        checkpoint_every: int = 50,
        racks: int = 1,
        timeout_s: float = 600.0,
    ) -> PoolTraining:
        """Train on racks of the pool, and on others from the last checkpoint when one is lost.

        Several racks divide each batch, and exchange their gradients sealed. A step is that of one accelerator with the
        whole batch, but for the order of additions, and but for batch normalisation, whose mean and variance
        are those of the part of a rack.

        Args:
            job: as for `Session.train`, as are ``onnx``, ``weights``, ``checkpoint`` and ``timeout_s``.
            onnx: an ONNX model to train, in place of a network of the zoo.
            weights: a safetensors file with initial weights.
            checkpoint: where to go on.
            checkpoint_every: steps after which a checkpoint is fetched. Their batches are kept until then.
            racks: number of racks that train the job together, 1 to 16.
            timeout_s: time limit for sending and loading each of them.

        Raises:
            WorkRefused: ``MODEL_REFUSED``, the job cannot be trained.
            HeteeError: no rack serves, with the reason of each.
        """
        sources: dict[str, Any] = {"onnx": onnx, "weights": weights, "timeout_s": timeout_s}
        urls = lambda: tuple(self._urls)  # noqa: E731  # the list may grow
        training = PoolTraining(self._connector, urls, job, sources, checkpoint, checkpoint_every, racks)
        self._trainings.append(training)
        return training

    def resize(self, count: int, *, wait_s: float = 60.0) -> tuple[str, ...]:
        """Give the enclave of each rack another number of accelerators, as `Session.resize`.

        Returns:
            ``RACK NAME`` of each accelerator.

        Raises:
            HeteeError: as `Session.resize`; racks before that one have been resized.
        """
        self._connector.count = count
        names: list[str] = []
        lanes = [(lane.url, lane.session) for lane in list(self._lanes.values())]
        for url, session in [*lanes, *(member for training in self._trainings for member in training.members)]:
            if session is not None:
                names += [f"{url} {name}" for name in session.resize(count, wait_s=wait_s)]
        with self._board.changed:
            for lane in self._lanes.values():
                lane.room = 2 * count
            self._board.changed.notify_all()
        return tuple(names)

    def close(self, deadline_ms: int = 5000) -> None:
        """End the enclaves and the sessions, and check the signed cleaning records.

        Args:
            deadline_ms: time limit for batches in flight; 0 ends at once.

        Raises:
            CleaningUnproven: racks were lost that have not confirmed the end of their enclaves.
            HeteeError: as `Session.close`.
        """
        if self._over.is_set():
            return
        self._over.set()
        with self._board.changed:
            self._board.closed = True
            self._board.changed.notify_all()
        self._board.refuse_all(refusal(Refusal.WIPED, "the session was closed before the batch was answered"))
        errors: list[HeteeError] = []
        parts: list[Lane | PoolTraining] = [*self._lanes.values(), *self._trainings]
        for each in parts:
            try:
                each.close(deadline_ms)
            except CleaningUnproven:
                continue
            except HeteeError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        if left := [report.url for report in self.racks if report.unproven]:
            detail = f"the end of the enclaves on {', '.join(left)} was not confirmed by a signed record"
            raise CleaningUnproven(Refusal.UNPROVEN, detail)
