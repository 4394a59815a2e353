"""One batch on its way through the worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from sectum.hetee.wire import messages
from sectum.hetee.wire.header import Header
from sectum.hetee.worker.accelerators.protocol import Stop
from sectum.hetee.worker.models import Model
from sectum.hetee.worker.pacing import Pacing
from sectum.hetee.worker.preparation import Preparation

STEPS = ("preprocess", "compute", "encryption", "transfer")


class Batch:
    """A batch and how far it is.

    It passes through receiving, preparing, computing and answering; whoever still works on it holds it, and when
    nobody does before it is computed, it is ready. It is answered once, by whoever claims that first.

    Attributes:
        header: of its BATCH.
        message: its BATCH.
        data: its plaintext, in memory that is reused after it.
        model: that it is for; None if it was refused at once.
        preparation: what makes its inputs; None if it was refused at once.
        pacing: what waits in place of preprocessing; None if its inputs are really made.
        items: images or rows in it.
        stop: set when nobody wants its result any more.
        times_ns: time spent in each of `STEPS`; steps overlap, so that their sum may be more than the latency.
            Preprocessing is the time in which some thread did it, however many did it at once.
    """

    def __init__(self, header: Header, message: messages.Batch, data: memoryview) -> None:
        self.header, self.message, self.data = header, message, data
        self.model: Model | None = None
        self.preparation: Preparation | None = None
        self.pacing: Pacing | None = None
        self.stop = Stop()
        self.items = 0
        self.times_ns = dict.fromkeys(STEPS, 0)
        self._lock = threading.Lock()
        self._holders = 1  # the intake, until all chunks are there
        self._answered = False
        self._preparing, self._prepared_ns = 0, 0

    @property
    def stream(self) -> int:
        """Its number."""
        return self.header.stream

    @property
    def pace(self) -> messages.Pace | None:
        """The published times that it is to take."""
        return self.message.paced[0] if self.message.paced else None

    @property
    def answered(self) -> bool:
        """Whether its answer is decided."""
        return self._answered

    def claim(self) -> bool:
        """Take the right to answer; True once."""
        with self._lock:
            claimed, self._answered = not self._answered, True
            return claimed

    def hold(self) -> None:
        """Say that there is something to do before it can be computed."""
        with self._lock:
            self._holders += 1

    def let_go(self) -> bool:
        """Say that this is done; True when it was the last."""
        with self._lock:
            self._holders -= 1
            return not self._holders

    def prepare(self, work: Callable[[], object], begun_ns: int | None = None) -> None:
        """Do a part of preprocessing, at the same time as other threads do theirs, and count the time.

        ``begun_ns``, on `time.perf_counter_ns`, is when it began, if not now.
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
