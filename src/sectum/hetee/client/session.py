"""A confidential session: one enclave, models and batches sent to it, answers and receipts checked."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sectum.hetee.attest.policy import Policy
from sectum.hetee.attest.records import Cleaning
from sectum.hetee.client.connection import HANDSHAKE_S, Connection
from sectum.hetee.client.enclave import Enclave, Pending
from sectum.hetee.client.exchange import Exchange
from sectum.hetee.client.inputs import Inputs, pieces
from sectum.hetee.client.plaintext import Plaintext
from sectum.hetee.client.results import Loaded, Result
from sectum.hetee.client.trust import Trust, read_policy_file
from sectum.hetee.errors import EvidenceRefused, HeteeError, RecordRefused, Refusal, refusal
from sectum.hetee.wire import messages
from sectum.hetee.wire.kinds import CHUNK_BYTES, CHUNK_BYTES_LEAST, Kind
from sectum.hetee.wire.messages import Pace, Pixels

AcceleratorKind = Literal["cpu", "cuda", "paced"]
DEADLINE_MS = 60_000
_GRACE_S = 5.0


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
) -> Session:
    """Attest a service and have an enclave made there.

    Args:
        url: ``hetee://host:port``.
        policy: what the owner accepts, or the path of its JSON file.
        identity: the owner's key; None makes one for this session alone.
        accelerator: the kind wanted.
        count: how many of them.
        wait_s: how long to wait for a free one.
        timeout_s: for connecting and for the handshake.
        chunk_bytes: size of the chunks that models and batches are sent in, 4 KiB to 1 MiB; None: it follows their
            size.

    Returns:
        A session, to be used in a ``with`` statement.

    Raises:
        EvidenceRefused: the evidence is not genuine, fresh and chained to a root of the policy.
        PolicyRefused: it is genuine, but not what the policy accepts.
        ServiceRefused: nobody answers, or nothing is free.
        HeteeError: other refusals; all say what to do.
    """
    if chunk_bytes is not None and not CHUNK_BYTES_LEAST <= chunk_bytes <= CHUNK_BYTES:
        raise refusal(
            Refusal.CHUNK_SIZE, f"chunks of {chunk_bytes} bytes: {CHUNK_BYTES_LEAST} to {CHUNK_BYTES} are sent"
        )
    trust = Trust(policy if isinstance(policy, Policy) else read_policy_file(policy))
    connection = Connection(url, trust, identity or Ed25519PrivateKey.generate(), timeout_s)
    session = Session(connection, trust, chunk_bytes)
    try:
        session.configure(accelerator, count, wait_s)
    except BaseException:
        session.close(0)
        raise
    return session


class Session:
    """Made by `connect`. May be used by several threads; batches are sent whole, one after the other.

    Attributes:
        trust: whose evidence was accepted.
    """

    def __init__(self, connection: Connection, trust: Trust, chunk_bytes: int | None = None) -> None:
        self.trust = trust
        self._chunk_bytes = chunk_bytes
        self._exchange = Exchange(connection, trust)
        self._loaded: tuple[Enclave, Loaded] | None = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            with suppress(HeteeError):  # what went wrong before matters more
                self.close(0)

    @property
    def failed(self) -> HeteeError | None:
        """Why the session has ended; None while it goes on."""
        return self._exchange.failed

    @property
    def index(self) -> int | None:
        """The number of the enclave in this session, from 0; None while there is none."""
        enclave = self._exchange.enclave
        return enclave.index if enclave is not None else None

    @property
    def queued(self) -> int:
        """How many sessions are served first, as far as the controller said."""
        return self._exchange.queued

    @property
    def cleaning(self) -> Cleaning | None:
        """The signed record of the enclave's end, verified; there after `close`."""
        return self._exchange.cleaning

    @property
    def model(self) -> Loaded | None:
        """The model that was loaded last, if its enclave is still there."""
        if self._loaded is None or self._loaded[0] is not self._exchange.enclave:
            return None
        return self._loaded[1]

    def configure(self, accelerator: AcceleratorKind, count: int, wait_s: float) -> None:
        """Have an enclave made, and wait until its worker has shown that it holds the keys. `connect` does it.

        Raises:
            ServiceRefused: ``BUSY``, ``NO_ACCELERATOR``.
            HeteeError: as `connect`.
        """
        exchange = self._exchange
        exchange.until(
            lambda: exchange.accept is not None, HANDSHAKE_S, Refusal.HANDSHAKE_LATE, "no answer to the handshake"
        )
        configure = messages.Configure(accelerator=accelerator, count=count, wait_ms=int(wait_s * 1e3))
        exchange.control(Kind.CONFIGURE, configure)
        self._ready(wait_s + _GRACE_S)

    def _ready(self, wait_s: float) -> Enclave:
        """The enclave, when its worker is ready."""
        exchange = self._exchange

        def there() -> bool:
            if exchange.refused is not None:
                error, exchange.refused = exchange.refused, None
                raise error
            return exchange.enclave is not None and exchange.enclave.ready is not None

        with exchange.changed:
            exchange.until(there, wait_s, Refusal.BUSY, "no enclave came")
            assert exchange.enclave is not None
            return exchange.enclave

    def load(self, model: str | Path | bytes, *, timeout_s: float = 120.0) -> Loaded:
        """Send a model to the enclave, after a new one has come if the last was lost.

        Args:
            model: an ONNX file, or its bytes.
            timeout_s: for sending and loading.

        Raises:
            WorkRefused: it cannot be loaded.
            HeteeError: the service or the connection failed.
        """
        if isinstance(model, bytes):
            data = model
        else:
            try:
                data = Path(model).read_bytes()
            except OSError as error:
                raise refusal(Refusal.MODEL_REFUSED, f"{model} cannot be read: {error.strerror}") from None
        digest = hashlib.sha256(data).digest()
        enclave = self._ready(timeout_s)
        code = messages.Code(format="onnx", sha256=digest)
        plaintext = Plaintext([memoryview(data)], self._chunk_bytes)
        pending = self._exchange.send_stream(enclave, Kind.CODE, code, digest, plaintext, timeout_s)
        loaded = self._answer(pending, timeout_s)
        assert isinstance(loaded, Loaded)
        self._loaded = enclave, loaded
        return loaded

    def infer(
        self,
        inputs: Inputs,
        *,
        pixels: Pixels | None = None,
        outputs: tuple[str, ...] = (),
        deadline_ms: int = DEADLINE_MS,
        pace: Pace | None = None,
    ) -> Result:
        """Send a batch and wait for its answer: as `submit`, then ``result()``."""
        pending = self._submit(inputs, pixels, outputs, deadline_ms, pace, None)
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
        model: Loaded | None = None,
    ) -> Future[Result]:
        """Send a batch; wait only while the service takes no more at a time.

        Args:
            inputs: JPEG images (paths or bytes), a NumPy array, or a mapping from the model's inputs to either.
            pixels: how bytes of images become the model's numbers; None: ImageNet's mean and deviation for JPEGs,
                and arrays of bytes as they are.
            outputs: those that are wanted; none means all.
            deadline_ms: from the last byte received until it has to be computed.
            pace: published times to be waited for in place of computing, on a ``paced`` accelerator.
            model: one that was loaded in this enclave; None is the last one.

        Raises:
            WorkRefused: ``NO_MODEL``; ``INPUT_REFUSED``, the inputs do not fit the model.
            ServiceRefused: ``WORKER_LOST``, the enclave that had the model is gone: load it again.
            HeteeError: the service or the connection failed. The future raises what befalls the batch later.
        """
        return self._submit(inputs, pixels, outputs, deadline_ms, pace, model).future

    def _submit(
        self,
        inputs: Inputs,
        pixels: Pixels | None,
        outputs: tuple[str, ...],
        deadline_ms: int,
        pace: Pace | None,
        model: Loaded | None,
    ) -> Pending:
        enclave = self._ready(deadline_ms / 1e3)
        model = model or self.model
        if model is None and self._loaded is not None:
            raise refusal(Refusal.WORKER_LOST, "the enclave that had the model was lost; another took its place")
        if model is None:
            raise refusal(Refusal.NO_MODEL, "no model is loaded in this enclave")
        self._exchange.wake(enclave)
        given = pieces(inputs, model.inputs, pixels)
        batch = messages.Batch(
            model=model.digest,
            tensors=tuple(piece.tensor for piece in given),
            deadline_ms=deadline_ms,
            outputs=outputs,
            paced=() if pace is None else (pace,),
        )
        plaintext = Plaintext.of(given, self._chunk_bytes, alone=not enclave.busy)
        return self._exchange.send_stream(enclave, Kind.BATCH, batch, model.digest, plaintext, deadline_ms / 1e3)

    def _answer(self, pending: Pending, timeout_s: float) -> Loaded | Result:
        try:
            found: Loaded | Result = pending.future.result(timeout_s)
        except FutureTimeout:
            error = refusal(Refusal.DEADLINE, f"no answer came within {timeout_s:g} s")
            self._exchange.fail(error)
            raise error from None
        return found

    def close(self, deadline_ms: int = 5000) -> None:
        """End the enclave and the session, and check the signed record of the cleaning.

        Args:
            deadline_ms: how long batches that are on their way may take; 0 ends at once.

        Raises:
            EvidenceRefused: the record is not genuine, or about another enclave.
            RecordRefused: the worker counted other answers than those that came, or a record was tampered with. That
                the connection ended before is no error here: `cleaning` is None then.
        """
        exchange = self._exchange
        if exchange.failed is None and exchange.enclaves:
            with suppress(HeteeError):  # it ends while it is being ended
                self._terminate(deadline_ms)
        exchange.close()
        error = exchange.failed
        if isinstance(error, EvidenceRefused | RecordRefused) and error.code is not Refusal.WIPED:
            raise error

    def _terminate(self, deadline_ms: int) -> None:
        exchange, enclave = self._exchange, self._exchange.enclave

        def ended() -> bool:
            return exchange.failed is not None

        if enclave is not None and enclave.ready is not None and deadline_ms:
            exchange.to_worker(enclave, Kind.FINISH, messages.Empty())
            with exchange.changed:
                exchange.changed.wait_for(
                    lambda: ended() or exchange.enclave is not enclave or enclave.finished is not None,
                    deadline_ms / 1e3,
                )
                counts = enclave.finished
            if counts is not None and (counts.answered, counts.refused) != (enclave.answered, enclave.refused):
                exchange.fail(refusal(Refusal.GAP, "the worker counted other answers than those that came"))
        exchange.control(Kind.TERMINATE, messages.Deadline(deadline_ms=deadline_ms))
        with exchange.changed:
            exchange.changed.wait_for(ended, deadline_ms / 1e3 + _GRACE_S)
