"""Serves one session in the worker: starts its threads, drains it, and wipes its keys and memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from blake3 import blake3

from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.errors import HeteeError
from sectum.hetee.wire import messages
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.worker.accelerators.protocol import Accelerator
from sectum.hetee.worker.answer_sender import Sign
from sectum.hetee.worker.batch_job import Hasher
from sectum.hetee.worker.engine import ComputeEngine
from sectum.hetee.worker.open_streams import OpenStreams, SessionLimits
from sectum.hetee.worker.preparation import Task
from sectum.hetee.worker.receiver import Receiver
from sectum.hetee.worker.records import RecordReader, RecordWriter

# Threads that prepare batches: so many more for each accelerator but the first, and at most so many.
_FOR_EACH_MORE, _MOST_PREPARERS = 4, 33


class EnclaveServer:
    """Serves one client. One thread receives, some prepare batches, each accelerator has one, and one sends.

    Args:
        reader: receives records from the client.
        writer: sends records to the client.
        limits: limits of the session.
        sign: makes the receipt of a batch.
        ended: called from some thread when the client's side has ended, with the refusal if there was one.
        hasher: hashes the plaintext of batches, for their receipts.
    """

    def __init__(
        self,
        reader: RecordReader,
        writer: RecordWriter,
        limits: SessionLimits,
        sign: Sign,
        ended: Callable[[HeteeError | None], None],
        hasher: Hasher = blake3,
    ) -> None:
        self._reader, self._writer, self._limits, self._ended = reader, writer, limits, ended
        self.streams = OpenStreams(writer, limits, sign)
        self._tasks: SimpleQueue[Task] = SimpleQueue()
        self._receiver = Receiver(reader, self.streams, self._tasks.put, hasher)
        self._preparers, self._begun = 0, False

    @property
    def engine(self) -> ComputeEngine:
        """Computes the batches of this session."""
        return self.streams.engine

    def start(self) -> None:
        """Send READY and begin to receive. The first accelerators have been granted."""
        ready = data_messages.Ready(
            index=self._limits.index,
            credit_bytes=self._limits.credit_bytes,
            open_streams=self._limits.open_streams,
            accelerators=self.engine.accelerators,
        )
        self.streams.answers.now(Kind.READY, ready)
        self._begun = True
        self._prepare_more()
        threading.Thread(target=self._receive, name="open", daemon=True).start()

    def grant(self, accelerator: Accelerator) -> None:
        """Compute on one more accelerator."""
        self.engine.grant(accelerator)
        if self._begun:
            self._prepare_more()

    def _prepare_more(self) -> None:
        """Start threads that prepare batches, if there are fewer than its accelerators need. They stay."""
        wanted = self._limits.preparers + _FOR_EACH_MORE * (len(self.engine.accelerators) - 1)
        while self._preparers < min(wanted, _MOST_PREPARERS):
            threading.Thread(target=self._prepare, name=f"prepare:{self._preparers}", daemon=True).start()
            self._preparers += 1

    def heartbeat(self) -> messages.Heartbeat:
        """What was done so far."""
        return self.streams.heartbeat()

    def _receive(self) -> None:
        try:
            self._receiver.run()
        except HeteeError as error:
            self.streams.refuse_all(error)
            self._ended(error)
        else:
            self.streams.connection_ended()
            self._ended(None)

    def _prepare(self) -> None:
        while True:
            self._tasks.get()()

    def owes_answers(self, end_s: float) -> bool:
        """Whether open streams are still to be answered, before ``end_s`` on the monotonic clock."""
        return time.monotonic() < end_s and bool(self.heartbeat().open_streams) and not self.streams.answers.dead

    def wipe(self) -> messages.Wiped:
        """Overwrite keys and buffers: the session is over."""
        self._reader.wipe()
        self._writer.wipe()
        streams = self.streams
        return messages.Wiped(
            wiped_bytes=streams.buffers.wipe(), answered=streams.answers.answered, refused=streams.answers.refused
        )
