"""A confidential session: sends models and batches to one enclave, and checks answers and receipts."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from sectum.hetee.attest.records import Cleaning
from sectum.hetee.client.bundle import ReceiptBundle, bundle_of
from sectum.hetee.client.checkpoint import Checkpoint
from sectum.hetee.client.connection import Connection
from sectum.hetee.client.enclave_requests import GRACE_S, EnclaveRequests
from sectum.hetee.client.inputs import Inputs
from sectum.hetee.client.model_file import read_model
from sectum.hetee.client.results import LoadedModel, Result
from sectum.hetee.client.training import Training, begin
from sectum.hetee.client.transport import ATTEST_EVERY_S, Transport
from sectum.hetee.client.trust import Trust
from sectum.hetee.client.worker_requests import WorkerRequests
from sectum.hetee.data_plane.messages import CodeFormat, Pace, Pixels, Work
from sectum.hetee.errors import HeteeError
from sectum.hetee.training.job import TrainingJob
from sectum.hetee.wire.messages import AcceleratorKind

DEADLINE_MS = 60_000


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
        self._transport = Transport(connection, trust, attest_every_s)
        self._enclaves = EnclaveRequests(self._transport)
        self._worker = WorkerRequests(self._transport, self._enclaves, chunk_bytes)

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
        return self._worker.model

    def configure(self, accelerator: AcceleratorKind, count: int, wait_s: float) -> None:
        """Ask for an enclave, and wait until its worker has proved that it has the keys. `connect` calls this.

        Raises:
            ServiceRefused: ``BUSY``, ``NO_ACCELERATOR``.
            HeteeError: as `connect`.
        """
        self._enclaves.configure(accelerator, count, wait_s)

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
        return self._enclaves.resize(count, wait_s)

    def load(self, model: str | Path | bytes, *, timeout_s: float = 120.0) -> LoadedModel:
        """Send a model to the enclave. If the enclave was lost, wait for the next one first.

        Args:
            model: path of an ONNX file, or its bytes.
            timeout_s: time limit for sending and loading.

        Raises:
            WorkRefused: the model cannot be loaded.
            HeteeError: the service or the connection failed.
        """
        content = model if isinstance(model, bytes) else read_model(model)
        return self._worker.load(content, timeout_s)

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
        return self._worker.send_code(kind, content, timeout_s)

    def submit_work(
        self,
        model: LoadedModel,
        work: Work,
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
        return self._worker.submit(inputs, pixels, (), deadline_ms, pace, model, (work,)).future

    def unload(self, model: LoadedModel) -> None:
        """Have the enclave drop a model. Batches of it that are not computed yet are refused.

        Raises:
            HeteeError: the connection has ended.
        """
        self._worker.unload(model)

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
        pending = self._worker.submit(inputs, pixels, outputs, deadline_ms, pace, None, split=split)
        result = self._worker.answer(pending, deadline_ms / 1e3 + GRACE_S)
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
        return self._worker.submit(inputs, pixels, outputs, deadline_ms, pace, model, split=split).future

    def bundle(self, result: Result) -> ReceiptBundle:
        """The receipt of a result with all that is needed to check it later; waits for the receipt.

        Raises:
            HeteeError: the receipt is not genuine, or the worker was lost before it came.
        """
        return bundle_of(result, self._transport.connection.session, self.trust)

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
        self._enclaves.close(deadline_ms)
