"""One batch in the worker: what it asks for, and how far it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from blake3 import blake3

from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.data_plane.receipts import STEPS
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire.header import Header
from sectum.hetee.worker.accelerators.protocol import Stop
from sectum.hetee.worker.lane import Lane
from sectum.hetee.worker.models import CheckedModel
from sectum.hetee.worker.pacing import Pacing
from sectum.hetee.worker.preparation import Preparation


class Hash(Protocol):
    """What hashes the plaintext of a batch, part by part."""

    def update(self, data: memoryview, /) -> object:
        """Add a part."""

    def digest(self) -> bytes:
        """The hash of all parts."""


Hasher = Callable[[], Hash]


class BatchJob:
    """A batch that is received, prepared, computed and answered, in this order.

    The receiver and each preparing task hold it; when the last of them lets go, it is ready to be computed. It is
    answered once, by the thread that claims it first.

    Attributes:
        header: header of the BATCH.
        message: the BATCH.
        data: its plaintext, in memory that is reused afterwards.
        model: the model that it is for; None if it was refused at once.
        preparation: makes the model's inputs; None if it was refused at once.
        pacing: waits in place of preprocessing; None if the inputs are really made.
        items: number of images or rows.
        request: SHA-256 of the payload of the BATCH.
        hasher: makes what hashes its plaintext and that of its outputs.
        inputs: hashes its plaintext, chunk by chunk.
        accelerator: name of the accelerator that computed it; empty before.
        computed: whether its outputs are its answer.
        outputs: names of the outputs that it gets.
        lane: where batches of one training job keep their order; None for others.
        stop: set when nobody wants the result any more.
        times_ns: time spent in each of `STEPS`. Steps overlap, so their sum may exceed the latency. Preprocessing
            counts the time in which at least one thread did it.
    """

    def __init__(
        self,
        header: Header,
        message: data_messages.BatchOpening,
        data: memoryview,
        request: bytes = bytes(32),
        hasher: Hasher = blake3,
    ) -> None:
        self.request, self.accelerator, self.computed = request, "", False
        self.hasher, self.inputs = hasher, hasher()
        self.header, self.message, self.data = header, message, data
        self.model: CheckedModel | None = None
        self.preparation: Preparation | None = None
        self.pacing: Pacing | None = None
        self.outputs: tuple[str, ...] = ()
        self.lane: Lane[BatchJob] | None = None
        self.stop = Stop()
        self.items = 0
        self.times_ns = dict.fromkeys(STEPS, 0)
        self._lock = threading.Lock()
        self._holders = 1  # the receiver, until all chunks have arrived
        self._answered = self._committed = False
        self._preparing, self._prepared_ns = 0, 0

    @property
    def stream(self) -> int:
        """The number of its stream."""
        return self.header.stream

    @property
    def pace(self) -> data_messages.Pace | None:
        """The published times to wait for; None if it is really computed."""
        return self.message.paced[0] if self.message.paced else None

    @property
    def answered(self) -> bool:
        """Whether a thread has claimed the right to answer."""
        return self._answered

    def claim(self) -> bool:
        """Claim the right to answer; returns True to the first caller only."""
        with self._lock:
            claimed, self._answered = not self._answered, True
            return claimed

    def commit(self) -> None:
        """Claim the right to answer before the state of a training job changes.

        Raises:
            WorkRefused: ``CANCELLED``, it has an answer already.
        """
        if not self.claim():
            raise refusal(Refusal.CANCELLED, "the step has an answer already")
        self._committed = True

    def withdraw(self) -> None:
        """Give the right to answer back if `commit` took it: the step has failed."""
        with self._lock:
            self._answered, self._committed = self._answered and not self._committed, False

    def claim_result(self) -> bool:
        """Claim the right to answer with outputs, which `commit` may have done; True to the first caller only."""
        with self._lock:
            claimed, self._answered, self._committed = self._committed or not self._answered, True, False
            return claimed

    def hold(self) -> None:
        """Add a task that must be done before the batch can be computed."""
        with self._lock:
            self._holders += 1

    def let_go(self) -> bool:
        """Mark one task as done; returns True if it was the last."""
        with self._lock:
            self._holders -= 1
            return not self._holders

    def prepare(self, work: Callable[[], object], begun_ns: int | None = None) -> None:
        """Do a part of preprocessing, concurrently with other threads, and count the time.

        ``begun_ns``, on the clock of `time.perf_counter_ns`, is when it began; None for now.
        """
        with self._lock:
            if not self._preparing:
                self._prepared_ns = begun_ns or time.perf_counter_ns()
            self._preparing += 1
        try:
            work()
        finally:
            with self._lock:
                self._preparing -= 1
                if not self._preparing:
                    self.times_ns["preprocess"] += time.perf_counter_ns() - self._prepared_ns
