"""What a session asks its worker for: to load a model, and to compute a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import TimeoutError as FutureTimeout

from sectum.hetee.client.enclave_channel import EnclaveChannel, Pending
from sectum.hetee.client.enclave_requests import EnclaveRequests
from sectum.hetee.client.inputs import Inputs, input_tensors
from sectum.hetee.client.plaintext import Plaintext
from sectum.hetee.client.results import LoadedModel, Result
from sectum.hetee.client.transport import Transport
from sectum.hetee.data_plane.messages import BatchOpening, CodeFormat, CodeOpening, Pace, Pixels, Work
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire.kinds import Kind


class WorkerRequests:
    """Models and batches of one session, as they are sent to whichever worker it has. Thread-safe.

    Args:
        transport: of the session.
        enclaves: waits for the worker.
        chunk_bytes: size of the chunks that are sent; None derives it from the size of the model or batch.
    """

    def __init__(self, transport: Transport, enclaves: EnclaveRequests, chunk_bytes: int | None) -> None:
        self._transport, self._enclaves, self._chunk_bytes = transport, enclaves, chunk_bytes
        self._loaded: tuple[EnclaveChannel, LoadedModel] | None = None

    @property
    def model(self) -> LoadedModel | None:
        """The model that was loaded last, if its enclave still exists."""
        if self._loaded is None or self._loaded[0] is not self._transport.enclave:
            return None
        return self._loaded[1]

    def load(self, content: bytes, timeout_s: float) -> LoadedModel:
        """Send a model; batches that name none are for it from now on. Raises as `Session.load`."""
        enclave = self._enclaves.ready(timeout_s)
        loaded = self._send_code(enclave, "onnx", content, timeout_s)
        self._loaded = enclave, loaded
        return loaded

    def send_code(self, kind: CodeFormat, content: bytes | memoryview, timeout_s: float) -> LoadedModel:
        """Send a model, weights or a training job, and wait until it is loaded. Raises as `Session.load`."""
        return self._send_code(self._enclaves.ready(timeout_s), kind, content, timeout_s)

    def _send_code(
        self, enclave: EnclaveChannel, kind: CodeFormat, content: bytes | memoryview, timeout_s: float
    ) -> LoadedModel:
        digest = hashlib.sha256(content).digest()
        code = CodeOpening(format=kind, sha256=digest)
        plaintext = Plaintext([memoryview(content)], self._chunk_bytes)
        pending = self._transport.send_stream(enclave, Kind.CODE, code, digest, plaintext, timeout_s)
        loaded = self.answer(pending, timeout_s)
        assert isinstance(loaded, LoadedModel)
        return loaded

    def unload(self, model: LoadedModel) -> None:
        """Have the worker drop a model. Raises as `Session.unload`."""
        enclave = self._transport.enclave
        if enclave is not None:
            code = CodeOpening(format="onnx", sha256=model.digest)
            self._transport.to_worker(enclave, Kind.UNLOAD, code)
        if self._loaded is not None and self._loaded[1] is model:
            self._loaded = None

    def submit(
        self,
        inputs: Inputs,
        pixels: Pixels | None,
        outputs: tuple[str, ...],
        deadline_ms: int,
        pace: Pace | None,
        model: LoadedModel | None,
        work: tuple[Work, ...] = (),
        *,
        split: bool = False,
    ) -> Pending:
        """Send a batch, as `Session.submit`; ``work`` says which one of a training job it is."""
        enclave = self._enclaves.ready(deadline_ms / 1e3)
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
        batch = BatchOpening(
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

    def answer(self, pending: Pending, timeout_s: float) -> LoadedModel | Result:
        """Wait for an answer; one that is late ends the session.

        Raises:
            HeteeError: the worker refused it, it came too late (``DEADLINE``), or the session has ended.
        """
        try:
            found: LoadedModel | Result = pending.future.result(timeout_s)
        except FutureTimeout:
            error = refusal(Refusal.DEADLINE, f"no answer came within {timeout_s:g} s")
            self._transport.fail(error)
            raise error from None
        return found
