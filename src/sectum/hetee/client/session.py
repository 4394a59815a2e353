"""A confidential session: sends models and batches to one enclave, and checks answers and receipts."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sectum.hetee.attest.records import Cleaning
from sectum.hetee.client.bundle import ReceiptBundle
from sectum.hetee.client.checkpoint import Checkpoint
from sectum.hetee.client.connection import HANDSHAKE_S, Connection
from sectum.hetee.client.enclave_channel import EnclaveChannel, Pending
from sectum.hetee.client.inputs import Inputs, input_tensors
from sectum.hetee.client.plaintext import Plaintext
from sectum.hetee.client.results import LoadedModel, Result
from sectum.hetee.client.training import Training, begin
from sectum.hetee.client.transport import ATTEST_EVERY_S, Transport
from sectum.hetee.client.trust import Trust, read_policy_file
from sectum.hetee.data_plane import messages as data_messages
from sectum.hetee.data_plane.messages import CodeFormat, Pace, Pixels
from sectum.hetee.errors import EvidenceRefused, HeteeError, RecordRefused, Refusal, refusal
from sectum.hetee.training.job import TrainingJob
from sectum.hetee.verification.policy import Policy
from sectum.hetee.wire import messages
from sectum.hetee.wire.kinds import CHUNK_BYTES, CHUNK_BYTES_LEAST, Kind
from sectum.hetee.wire.messages import AcceleratorKind

DEADLINE_MS = 60_000
_ACCELERATORS, _LONGEST_WAIT_S = 32, 600.0
_GRACE_S = 5.0
_GIVEN_BACK_S = (
    700.0  # the longest batch that a service may allow, and more; a controller that is lost is noticed before
)


def connect(
    url: str,
    policy: Policy | str | Path,
    *,
    identity: Ed25519PrivateKey | None = None,
    accelerator: AcceleratorKind = "cpu",
    count: int = 1,
    wait_s: float = 60.0,
    timeout_s: float = HANDSHAKE_S,
    chunk_bytes: int | None = None,
    attest_every_s: float = ATTEST_EVERY_S,
) -> Session:
    """Verify a service's evidence, and get an enclave there.

    Args:
        url: ``hetee://host:port``.
        policy: what the owner accepts, or the path of its JSON file.
        identity: the owner's key; None makes a new one for this session.
        accelerator: kind of accelerator.
        count: number of accelerators.
        wait_s: how long to wait for a free enclave.
        timeout_s: time limit for connecting, and for the handshake.
        chunk_bytes: size of the chunks that models and batches are sent in, 4 KiB to 1 MiB; None derives it from the
            size of the model or batch.
        attest_every_s: in a long session, the controller has to attest itself again after this time.

    Returns:
        A session, to be used in a ``with`` statement.

    Raises:
        EvidenceRefused: the evidence is not genuine, not fresh, or not chained to a root of the policy.
        PolicyRefused: the evidence is genuine, but the policy does not accept it.
        ServiceRefused: the service does not answer, or no enclave is free.
        HeteeError: other refusals.
    """
    if chunk_bytes is not None and not CHUNK_BYTES_LEAST <= chunk_bytes <= CHUNK_BYTES:
        raise refusal(
            Refusal.CHUNK_SIZE, f"chunks of {chunk_bytes} bytes, expected {CHUNK_BYTES_LEAST} to {CHUNK_BYTES}"
        )
    trust = Trust(policy if isinstance(policy, Policy) else read_policy_file(policy))
    connection = Connection(url, trust, identity or Ed25519PrivateKey.generate(), timeout_s)
    session = Session(connection, trust, chunk_bytes, attest_every_s)
    try:
        session.configure(accelerator, count, wait_s)
    except BaseException:
        with suppress(HeteeError):  # the first error matters more
            session.close(0)
        raise
    return session


class Session:
    """A session; `connect` makes it. Thread-safe: batches are sent whole, one after the other.

    Attributes:
        trust: the accepted claims of the controller and of the worker.
    """

    def __init__(
        self,
        connection: Connection,
        trust: Trust,
        chunk_bytes: int | None = None,
        attest_every_s: float = ATTEST_EVERY_S,
    ) -> None:
        self.trust = trust
        self._chunk_bytes = chunk_bytes
        self._transport = Transport(connection, trust, attest_every_s)
        self._loaded: tuple[EnclaveChannel, LoadedModel] | None = None
        self._closed = False
        self._one_resize = threading.Lock()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            with suppress(HeteeError):  # the error in the block matters more
                self.close(0)

    @property
    def failed(self) -> HeteeError | None:
        """Why the session has ended; None while it is open."""
        return self._transport.failed

    @property
    def index(self) -> int | None:
        """The index of the enclave in this session, from 0; None while there is none."""
        enclave = self._transport.enclave
        return enclave.index if enclave is not None else None

    @property
    def queued(self) -> int:
        """The number of sessions before this one in the queue, as last reported by the controller."""
        return self._transport.queued

    @property
    def cleaning(self) -> Cleaning | None:
        """The signed record of the last enclave's end, verified; available after `close`."""
        return self._transport.cleanings.get(self._transport.enclaves - 1)

    @property
    def cleanings(self) -> dict[int, Cleaning]:
        """The signed records of the ends of all enclaves of this session so far, verified, by their index."""
        return dict(self._transport.cleanings)

    @property
    def model(self) -> LoadedModel | None:
        """The model that was loaded last, if its enclave still exists."""
        if self._loaded is None or self._loaded[0] is not self._transport.enclave:
            return None
        return self._loaded[1]

    def configure(self, accelerator: AcceleratorKind, count: int, wait_s: float) -> None:
        """Ask for an enclave, and wait until its worker has proved that it has the keys. `connect` calls this.

        Raises:
            ServiceRefused: ``BUSY``, ``NO_ACCELERATOR``.
            HeteeError: as `connect`.
        """
        transport = self._transport
        transport.until(
            lambda: transport.accept is not None, HANDSHAKE_S, Refusal.HANDSHAKE_LATE, "no answer to the handshake"
        )
        configure = messages.Configure(accelerator=accelerator, count=count, wait_ms=int(wait_s * 1e3))
        transport.control(Kind.CONFIGURE, configure)
        self._ready(wait_s + _GRACE_S)

    def _ready(self, wait_s: float) -> EnclaveChannel:
        """Wait until the worker is ready; returns its channel."""
        transport = self._transport

        def there() -> bool:
            if transport.refused is not None:
                error, transport.refused = transport.refused, None
                raise error
            return transport.enclave is not None and transport.enclave.ready is not None

        with transport.changed:
            transport.until(there, wait_s, Refusal.BUSY, "no enclave became ready in time")
            assert transport.enclave is not None
            return transport.enclave

    def resize(self, count: int, *, wait_s: float = 60.0) -> tuple[str, ...]:
        """Give the enclave another number of accelerators, while it computes. Batches in flight go on.

        What is added gets every model before it gets batches. What is given back finishes its batch first, and is
        reset when this returns. If the enclave is lost later, the next one gets as many.

        Args:
            count: number of accelerators, 1 to 32.
            wait_s: how long to wait for more, at most 600 s; giving back takes as long as the batch that is computed.

        Returns:
            Names of the accelerators that the enclave has now. They may be fewer while others have their turn.

        Raises:
            ServiceRefused: ``BUSY``, so many did not become free in time, and the enclave keeps its number;
                ``NO_ACCELERATOR``, the service has fewer, or this kind cannot be resized; ``WORKER_LOST``, the enclave
                was lost meanwhile.
            HeteeError: the service or the connection failed.
        """
        if not 1 <= count <= _ACCELERATORS:
            detail = f"an enclave of {count} accelerators, expected 1 to {_ACCELERATORS}"
            raise refusal(Refusal.NO_ACCELERATOR, detail)
        transport = self._transport
        with self._one_resize:
            self._ready(wait_s)
            transport.resized, transport.resizing = None, True
            try:
                transport.control(
                    Kind.RESIZE, messages.Resize(count=count, wait_ms=int(min(wait_s, _LONGEST_WAIT_S) * 1e3))
                )
                late = Refusal.CONTROLLER_LOST, "the controller did not answer RESIZE"
                transport.until(lambda: transport.resized is not None, wait_s + _GIVEN_BACK_S, *late)
            except HeteeError as error:
                transport.fail(error)
                raise
            finally:
                transport.resizing = False
        answer = transport.resized
        assert answer is not None
        for failure in answer.refused:
            raise refusal(failure.code, failure.detail)
        return answer.accelerators

    def load(self, model: str | Path | bytes, *, timeout_s: float = 120.0) -> LoadedModel:
        """Send a model to the enclave. If the enclave was lost, wait for the next one first.

        Args:
            model: path of an ONNX file, or its bytes.
            timeout_s: time limit for sending and loading.

        Raises:
            WorkRefused: the model cannot be loaded.
            HeteeError: the service or the connection failed.
        """
        data = model if isinstance(model, bytes) else read_model(model)
        enclave = self._ready(timeout_s)
        loaded = self._send_code(enclave, "onnx", data, timeout_s)
        self._loaded = enclave, loaded
        return loaded

    def train(
        self,
        job: TrainingJob,
        *,
        onnx: bytes | None = None,
        weights: bytes | None = None,
        checkpoint: Checkpoint | None = None,
        timeout_s: float = 600.0,
    ) -> Training:
        """Begin to train in the enclave, or go on from a checkpoint. If the enclave was lost, wait for the next first.

        Args:
            job: what to train, and how. Digests of what is given here are filled in.
            onnx: an ONNX model to train, in place of a network of the zoo.
            weights: a safetensors file with initial weights.
            checkpoint: what `Training.checkpoint` gave, in this session or another.
            timeout_s: time limit for sending and loading each of them.

        Raises:
            WorkRefused: ``MODEL_REFUSED``, the job cannot be trained.
            HeteeError: the service or the connection failed.
        """
        return begin(self, job, onnx=onnx, weights=weights, checkpoint=checkpoint, timeout_s=timeout_s)

    def send_code(self, kind: CodeFormat, content: bytes | memoryview, timeout_s: float) -> LoadedModel:
        """Send a model, weights or a training job, and wait until it is loaded; `train` calls this.

        Raises:
            HeteeError: as `load`.
        """
        return self._send_code(self._ready(timeout_s), kind, content, timeout_s)

    def _send_code(
        self, enclave: EnclaveChannel, kind: CodeFormat, content: bytes | memoryview, timeout_s: float
    ) -> LoadedModel:
        digest = hashlib.sha256(content).digest()
        code = data_messages.CodeOpening(format=kind, sha256=digest)
        plaintext = Plaintext([memoryview(content)], self._chunk_bytes)
        pending = self._transport.send_stream(enclave, Kind.CODE, code, digest, plaintext, timeout_s)
        loaded = self._answer(pending, timeout_s)
        assert isinstance(loaded, LoadedModel)
        return loaded

    def submit_work(
        self,
        model: LoadedModel,
        work: data_messages.Work,
        inputs: Mapping[str, Any],
        *,
        pixels: Pixels | None,
        deadline_ms: int,
        pace: Pace | None,
    ) -> Future[Result]:
        """Send a batch of a training job without waiting for its answer; `Training` calls this.

        Raises:
            HeteeError: as `submit`.
        """
        return self._submit(inputs, pixels, (), deadline_ms, pace, model, (work,)).future

    def unload(self, model: LoadedModel) -> None:
        """Have the enclave drop a model. Batches of it that are not computed yet are refused.

        Raises:
            HeteeError: the connection has ended.
        """
        enclave = self._transport.enclave
        if enclave is not None:
            code = data_messages.CodeOpening(format="onnx", sha256=model.digest)
            self._transport.to_worker(enclave, Kind.UNLOAD, code)
        if self._loaded is not None and self._loaded[1] is model:
            self._loaded = None

    def cancel(self, future: Future[Result]) -> None:
        """Cancel a batch whose future `submit` returned: the future then gets ``CANCELLED``, or the result."""
        self._transport.cancel(future)

    def infer(
        self,
        inputs: Inputs,
        *,
        pixels: Pixels | None = None,
        outputs: tuple[str, ...] = (),
        deadline_ms: int = DEADLINE_MS,
        pace: Pace | None = None,
        split: bool = False,
    ) -> Result:
        """Send a batch and wait for its answer; the same as `submit` and then ``result()``."""
        pending = self._submit(inputs, pixels, outputs, deadline_ms, pace, None, split=split)
        result = self._answer(pending, deadline_ms / 1e3 + _GRACE_S)
        assert isinstance(result, Result)
        return result

    def submit(
        self,
        inputs: Inputs,
        *,
        pixels: Pixels | None = None,
        outputs: tuple[str, ...] = (),
        deadline_ms: int = DEADLINE_MS,
        pace: Pace | None = None,
        model: LoadedModel | None = None,
        split: bool = False,
    ) -> Future[Result]:
        """Send a batch without waiting for its answer. Blocks only while the worker grants no credit.

        Args:
            inputs: JPEG images (paths or bytes), a NumPy array, or a mapping from the model's inputs to either.
            pixels: how pixels are converted to the model's numbers. None converts JPEG images with ImageNet's mean and
                deviation, and leaves arrays as they are.
            outputs: names of the wanted outputs; empty for all.
            deadline_ms: time limit from the last byte received until the batch is computed.
            pace: published times to wait for instead of computing, on a ``paced`` accelerator.
            model: a model that was loaded in this enclave; None for the last one.
            split: whether the accelerators of the enclave that do nothing at the time compute a part of the batch each.
                The model must compute each item from that item alone; one of which this is not known is refused.

        Raises:
            WorkRefused: ``NO_MODEL``; ``INPUT_REFUSED``, the inputs do not fit the model, or cannot be split.
            ServiceRefused: ``WORKER_LOST``, the enclave that had the model is gone: load it again.
            HeteeError: the service or the connection failed. Later errors are raised by the future.
        """
        return self._submit(inputs, pixels, outputs, deadline_ms, pace, model, split=split).future

    def _submit(
        self,
        inputs: Inputs,
        pixels: Pixels | None,
        outputs: tuple[str, ...],
        deadline_ms: int,
        pace: Pace | None,
        model: LoadedModel | None,
        work: tuple[data_messages.Work, ...] = (),
        *,
        split: bool = False,
    ) -> Pending:
        enclave = self._ready(deadline_ms / 1e3)
        model = model or self.model
        if model is None and self._loaded is not None:
            raise refusal(
                Refusal.WORKER_LOST, "the enclave that had the model was lost, and another one has replaced it"
            )
        if model is None:
            raise refusal(Refusal.NO_MODEL, "no model is loaded in this enclave")
        # A batch of a training job may give fewer inputs than a step takes.
        names = inputs if isinstance(inputs, Mapping) else ()
        slots = tuple(slot for slot in model.inputs if not work or slot.name in names)
        given = input_tensors(inputs, slots, pixels)
        batch = data_messages.BatchOpening(
            model=model.digest,
            tensors=tuple(piece.tensor for piece in given),
            deadline_ms=deadline_ms,
            outputs=outputs,
            paced=() if pace is None else (pace,),
            work=work,
            split=split,
        )
        plaintext = Plaintext.of(given, self._chunk_bytes, alone=not enclave.busy)
        return self._transport.send_stream(enclave, Kind.BATCH, batch, model.digest, plaintext, deadline_ms / 1e3)

    def bundle(self, result: Result) -> ReceiptBundle:
        """The receipt of a result with all that is needed to check it later; waits for the receipt.

        Raises:
            HeteeError: the receipt is not genuine, or the worker was lost before it came.
        """
        parts, session = result.signed.result(), self._transport.connection.session
        return ReceiptBundle(
            receipt=parts.token,
            receipt_key=parts.vouch.receipt_key,
            worker_key=parts.vouch.worker_key,
            session=session.session_id,
            transcript=session.th4,
            index=parts.vouch.index,
            stream=parts.stream,
            request=parts.request,
            result=parts.result,
            controller=self.trust.evidence,
            worker=parts.vouch.evidence,
            accepted_s=parts.accepted_s,
            controller_s=self.trust.accepted_s,
        )

    def _answer(self, pending: Pending, timeout_s: float) -> LoadedModel | Result:
        try:
            found: LoadedModel | Result = pending.future.result(timeout_s)
        except FutureTimeout:
            error = refusal(Refusal.DEADLINE, f"no answer came within {timeout_s:g} s")
            self._transport.fail(error)
            raise error from None
        return found

    def close(self, deadline_ms: int = 5000) -> None:
        """End the enclave and the session, and check the signed cleaning record.

        Args:
            deadline_ms: time limit for batches in flight; 0 ends at once.

        Raises:
            CleaningUnproven: there is no record for an enclave: the session has ended, but the controller has not
                confirmed that the process with the owner's data has.
            EvidenceRefused: a cleaning record is not genuine, or is about another enclave.
            RecordRefused: the worker's count of answers differs from the client's, or a record was tampered with.
        """
        transport = self._transport
        if transport.failed is None and transport.enclaves:
            with suppress(HeteeError):  # the session may end by itself meanwhile
                self._terminate(deadline_ms)
        transport.close()
        error = transport.failed
        if isinstance(error, EvidenceRefused | RecordRefused) and error.code is not Refusal.WIPED:
            raise error
        missing = sorted(set(range(transport.enclaves)) - set(transport.cleanings))
        if missing and not self._closed:
            self._closed = True
            why = f": {error}" if error is not None and error.code is not Refusal.WIPED else ""
            detail = f"the end of enclave {missing[0]} was not confirmed by a signed record{why}"
            raise refusal(Refusal.UNPROVEN, detail)
        self._closed = True

    def _terminate(self, deadline_ms: int) -> None:
        transport, enclave = self._transport, self._transport.enclave

        def ended() -> bool:
            return transport.failed is not None

        if enclave is not None and enclave.ready is not None and deadline_ms:
            transport.finishing = True
            transport.to_worker(enclave, Kind.FINISH, messages.Empty())
            with transport.changed:
                transport.changed.wait_for(
                    lambda: ended() or transport.enclave is not enclave or enclave.finished is not None,
                    deadline_ms / 1e3,
                )
                counts = enclave.finished
            if counts is not None and (counts.answered, counts.refused) != (enclave.answered, enclave.refused):
                transport.fail(refusal(Refusal.GAP, "the worker's count of answers differs from the number received"))
        transport.finishing, transport.ending = False, True
        transport.control(Kind.TERMINATE, messages.Deadline(deadline_ms=deadline_ms))
        with transport.changed:
            transport.changed.wait_for(ended, deadline_ms / 1e3 + _GRACE_S)


def read_model(path: str | Path) -> bytes:
    """The bytes of a model's file.

    Raises:
        WorkRefused: ``MODEL_REFUSED``, it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise refusal(Refusal.MODEL_REFUSED, f"{path} cannot be read: {error.strerror}") from None
