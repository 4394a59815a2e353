"""Racks for tests of sessions over pools: they answer and die when a test says so, without processes and sockets."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import numpy as np

from sectum.hetee.client.checkpoint import Checkpoint
from sectum.hetee.client.results import LoadedModel, Result
from sectum.hetee.client.training import Training, begin
from sectum.hetee.data_plane.messages import Slot, Work
from sectum.hetee.errors import CleaningUnproven, HeteeError, Refusal, refusal
from sectum.hetee.training.exchange import BLOCKS, GRADIENTS
from sectum.hetee.training.job import CHECKPOINT, LABELS, LOSS, SIZE, STATE, TrainingJob, read_job

SLOTS = (Slot(name="input", dtype="float32", shape=("N",)), Slot(name=LABELS, dtype="int64", shape=("N",)))
LOST = refusal(Refusal.HOST_LOST, "the connection to the host ended")


class FakeRack:
    """A rack.

    Args:
        name: of its machine.
        at_once: whether it answers batches as soon as they come; otherwise `answer` does.

    Attributes:
        error: what it answers a handshake with; None to accept it.
        sessions: its sessions so far.
        drift: is added to the loss of each step of training.
    """

    def __init__(self, name: str, *, at_once: bool = True) -> None:
        self.name, self.at_once = name, at_once
        self.error: HeteeError | None = None
        self.sessions: list[FakeSession] = []
        self.drift = 0.0
        self.before_submit: Callable[[FakeSession], None] = lambda _session: None

    def die(self, error: HeteeError = LOST) -> None:
        """Lose all sessions."""
        for session in self.sessions:
            session.die(error)

    def answer(self) -> None:
        """Answer everything that waits."""
        for session in self.sessions:
            session.answer()

    @property
    def waiting(self) -> int:
        """Batches that were sent and not answered."""
        return sum(len(session.waiting) for session in self.sessions)


class FakeSession:
    """A session with a `FakeRack`, with what sessions over pools use."""

    def __init__(self, rack: FakeRack) -> None:
        self.rack = rack
        controller = SimpleNamespace(device=rack.name.encode(), format="software", hardware=False)
        self.trust = SimpleNamespace(controller=controller)
        self.failed: HeteeError | None = None
        self.index: int | None = None
        self.waiting: list[tuple[Future[Result], Result, Future[Any]]] = []
        self.known: set[bytes] = set()
        self.loads: list[bytes] = []
        self._lock = threading.RLock()
        self._codes: dict[bytes, bytes] = {}
        self._done, self._state, self._given = 0, 0, 0

    # --- models ---

    def load(self, content: bytes) -> LoadedModel:
        self._alive()
        if content == b"bad":
            raise refusal(Refusal.MODEL_REFUSED, "bad")
        self.loads.append(content)
        self.known.add(hashlib.sha256(content).digest())
        return LoadedModel(hashlib.sha256(content).digest(), (), (), 1.0)

    def submit(self, inputs: Any, *, model: LoadedModel, **_options: Any) -> Future[Result]:
        self.rack.before_submit(self)
        with self._lock:
            self._alive()
            if inputs is None:
                raise refusal(Refusal.INPUT_REFUSED, "nothing was given")
            if model.digest not in self.known:
                refused: Future[Result] = Future()
                refused.set_exception(refusal(Refusal.NO_MODEL, "no such model"))
                return refused
            return self._answer_later({"y": np.asarray(inputs) + 1})

    def replace_enclave(self) -> None:
        """Lose the enclave, and get another one without models."""
        with self._lock:
            assert self.index is not None
            self.index += 1
            self.known.clear()
            self._fail(refusal(Refusal.WORKER_LOST, "the enclave was lost"))

    def _answer_later(self, outputs: dict[str, Any]) -> Future[Result]:
        answer: Future[Result] = Future()
        signed: Future[Any] = Future()
        self.waiting.append((answer, Result(outputs, False, 1.0, 0.0, signed), signed))
        if self.rack.at_once:
            self.answer()
        return answer

    def answer(self, *, signed: bool = True) -> None:
        """Answer what waits, without the receipts unless ``signed``."""
        with self._lock:
            for answer, result, receipt in self.waiting:
                if not answer.done():
                    answer.set_result(result)
                if signed:
                    receipt.set_result(SimpleNamespace(receipt="receipt"))
            if signed:
                self.waiting.clear()

    def die(self, error: HeteeError) -> None:
        """End, with everything that waits."""
        with self._lock:
            if self.failed is None:
                self.failed = error
                self._fail(error)

    def _fail(self, error: HeteeError) -> None:
        waiting, self.waiting = self.waiting, []
        for answer, _result, receipt in waiting:
            if not answer.done():
                answer.set_exception(error)
            receipt.set_exception(error)

    def _alive(self) -> None:
        if self.failed is not None:
            raise self.failed

    def close(self, deadline_ms: int = 5000) -> None:
        lost = self.failed is not None
        self.die(refusal(Refusal.WIPED, "the session was closed"))
        if lost and self.index is not None:
            raise CleaningUnproven(Refusal.UNPROVEN, "no record")

    # --- training: the state is a number that each batch changes, and the loss of a step is the state after it ---

    def train(
        self,
        job: TrainingJob,
        *,
        onnx: bytes | None = None,
        weights: bytes | None = None,
        checkpoint: Checkpoint | None = None,
        timeout_s: float = 1.0,
    ) -> Training:
        return begin(self, job, onnx=onnx, weights=weights, checkpoint=checkpoint, timeout_s=timeout_s)

    def send_code(self, kind: str, content: bytes, timeout_s: float) -> LoadedModel:
        self._alive()
        digest = hashlib.sha256(content).digest()
        self._codes[digest] = bytes(content)
        if kind == "training":
            job = read_job(content)
            self._done, self._state = job.step, int(b"".join(map(self._codes.__getitem__, job.checkpoint)) or 0)
        return LoadedModel(digest, SLOTS, (), 0.0)

    def unload(self, _model: LoadedModel) -> None:
        self._alive()

    def submit_work(self, _model: LoadedModel, work: Work, inputs: Any, **_options: Any) -> Future[Result]:
        self.rack.before_submit(self)
        with self._lock:
            self._alive()
            if work.kind == "checkpoint":
                content = np.frombuffer(str(self._state).encode(), np.uint8)
                digest = np.frombuffer(hashlib.sha256(content.tobytes()).digest(), np.uint8)
                answer = self._answer_later({CHECKPOINT: content, SIZE: np.int64(len(content)), STATE: digest})
                self.answer()
                return answer
            if work.kind == "join":
                return self._answer_later({STATE: self._digest()})
            if work.kind == "apply":
                return self._step(self._given + int(inputs[BLOCKS].view(np.int64).sum()), self._digest)
            if work.step != self._done + 1 or inputs[LABELS].min() < 0:
                refused: Future[Result] = Future()
                refused.set_exception(refusal(Refusal.INPUT_REFUSED, f"step {work.step} after {self._done}"))
                return refused
            if work.kind == "gradients":
                self._given = int(inputs[LABELS].sum())
                return self._answer_later({GRADIENTS: np.array([self._given]).view(np.uint8), SIZE: np.int64(1)})
            return self._step(int(inputs[LABELS].sum()), lambda: np.zeros(0, np.uint8))

    def _step(self, given: int, state: Callable[[], Any]) -> Future[Result]:
        self._done += 1
        self._state = (31 * self._state + given) % 1_000_003
        return self._answer_later({LOSS: np.float64(self._state + self.rack.drift), STATE: state()})

    def _digest(self) -> Any:
        return np.frombuffer(hashlib.sha256(str(self._state).encode()).digest(), np.uint8)


class FakeConnector:
    """Makes sessions with racks by their names, as `Connector` does by addresses."""

    def __init__(self, racks: dict[str, FakeRack], *, wait_s: float = 5.0) -> None:
        self.racks, self.wait_s, self.count = racks, wait_s, 1

    def verify(self, url: str) -> FakeSession:
        rack = self.racks[url]
        if rack.error is not None:
            raise rack.error
        session = FakeSession(rack)
        rack.sessions.append(session)
        return session

    def configure(self, session: FakeSession) -> None:
        session.index = 0

    def connect(self, url: str) -> FakeSession:
        session = self.verify(url)
        self.configure(session)
        return session
