"""The worker's main loop: its link to the controller, from STARTED to the end of the process."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
import traceback
from dataclasses import dataclass
from types import TracebackType

from sectum.hetee.confinement.confine import ConfinementReport
from sectum.hetee.data_plane.channel import data_channel
from sectum.hetee.data_plane.receipts import Receipt, ReceiptSigner
from sectum.hetee.data_plane.release_key import WorkerKey
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.role_log import log_event
from sectum.hetee.wire import messages
from sectum.hetee.wire.frames import Frame, FrameReader, plain_frame
from sectum.hetee.wire.kinds import ALLOWED, STREAM_BYTES, Kind, Role
from sectum.hetee.wire.messages import Message, decode, encode
from sectum.hetee.worker.accelerators import accelerator
from sectum.hetee.worker.accelerators.protocol import Accelerator
from sectum.hetee.worker.batch_job import BatchJob
from sectum.hetee.worker.enclave_server import EnclaveServer
from sectum.hetee.worker.open_streams import SessionLimits
from sectum.hetee.worker.records import SealedRecordReader, SealedRecordWriter

_HEARTBEAT_S = 0.5
_DRAIN_STEP_S = 0.005  # how often is looked whether all answers were sent
_CLEANING_S = 0.4  # for accelerators to stop and be cleaned; the controller waits 1 s in total
_BUFFER_BYTES = 4 << 20
_STEP_SHARE = 0.5  # of the time to finish a batch, for a step of training; the rest is for its last layer and its state
# The files of all models may take this part of the memory: each is also kept as the runtime's copy, and once more while
# it is loaded.
_MODELS_SHARE = 6


@dataclass(frozen=True)
class WorkerSettings:
    """What the controller passes to a worker on its command line.

    Attributes:
        threads: number of threads that compute one batch on a CPU.
        measurement: measurement of the worker's software, 32 bytes, for its receipts.
        hardware: format of the controller's evidence, for its receipts.
        memory_bytes: limit on its private memory; 0 for no limit.
        devices: the accelerators with device nodes that it owns from its start.
        longest_batch_s: time that the controller gives it to finish a batch after REVOKE.
    """

    threads: int
    measurement: bytes
    hardware: str
    memory_bytes: int = 0
    devices: tuple[str, ...] = ()
    longest_batch_s: float = 60.0


def log(event: str, **facts: object) -> None:
    """Log an event of this process."""
    log_event("worker", event, pid=os.getpid(), **facts)


def widen(sock: socket.socket) -> None:
    """Ask for a send buffer that holds several chunks; the kernel may limit it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)


class WorkerMain:
    """Handles the controller's messages, and serves one session when it gets one.

    Args:
        link: socket to the controller.
        data: socket to the client, through the host.
        setting: options from the command line.
    """

    def __init__(self, link: socket.socket, data: socket.socket, setting: WorkerSettings) -> None:
        self._link, self._data, self._setting = link, data, setting
        self._reader = FrameReader(ALLOWED[Role.CONTROLLER, Role.WORKER], self._receive)
        self._writing = threading.Lock()
        self._key, self._signer = WorkerKey(), ReceiptSigner()
        self._enclave: EnclaveServer | None = None
        self._granted: list[Accelerator] = []
        self._confinement: tuple[str, ...] = ()
        self._started = self._wiping = self._wiped = False
        self._wipe_s: float | None = None  # when open streams are not waited for any more; None before WIPE

    def run(self, report: ConfinementReport) -> None:
        """Send STARTED, then serve until the controller closes the link.

        Raises:
            HeteeError: the controller broke the protocol.
        """
        self._confinement = tuple(report.confinement)
        self._send(
            Kind.STARTED,
            messages.Started(
                worker_key=self._key.public,
                receipt_key=self._signer.public_key,
                pid=os.getpid(),
                confinement=tuple(report.confinement),
                unconfined=tuple(report.unconfined),
            ),
        )
        poller = select.poll()
        poller.register(self._link, select.POLLIN)
        heartbeat_s = time.monotonic() + _HEARTBEAT_S
        while True:
            wait_s = max(0.0, heartbeat_s - time.monotonic())
            if self._draining:
                wait_s = min(wait_s, _DRAIN_STEP_S)
            if poller.poll(wait_s * 1e3) and not self._take_frames():
                return
            if time.monotonic() >= heartbeat_s:
                heartbeat_s = time.monotonic() + _HEARTBEAT_S
                if self._enclave is not None and not self._wiped:
                    self._send(Kind.HEARTBEAT, self._enclave.heartbeat())
            if self._draining:
                self._wipe_when_drained()

    @property
    def _draining(self) -> bool:
        return self._wipe_s is not None and not self._wiped

    def _take_frames(self) -> bool:
        """Handle the frames that have come; returns False at the end of the link."""
        try:
            while frame := self._reader.next():
                self._take(frame)
        except BlockingIOError:
            return True
        except ConnectionResetError:  # the controller closed it with data unread
            pass
        return False

    def _receive(self, memory: memoryview, _whole: bool) -> int:
        return self._link.recv_into(memory, 0, socket.MSG_DONTWAIT)

    def _send(self, kind: Kind, message: Message) -> None:
        try:
            with self._writing:
                self._link.sendall(plain_frame(kind, encode(message)))
        except ConnectionError:  # the controller is gone, so this worker ends
            os._exit(0)

    def _take(self, frame: Frame) -> None:
        payload = frame.payload
        if self._wiped:
            return  # sent before the controller had read WIPED
        match frame.header.kind:
            case Kind.RELEASE:
                self._release(decode(payload, messages.Release))
            case Kind.GRANT:
                for name in decode(payload, messages.Accelerators).accelerators:
                    self._granted.append(
                        accelerator(name, threads=self._setting.threads, devices=self._setting.devices)
                    )
                self._start()
            case Kind.REVOKE:
                self._revoke(decode(payload, messages.Accelerators).accelerators)
            case _:
                self._begin_to_wipe(decode(payload, messages.Deadline).deadline_ms / 1e3)

    def _release(self, message: messages.Release) -> None:
        secret = self._key.accept(message.sealed, message.session, message.index)
        sealer, opener = data_channel(Role.WORKER, secret, message.session)

        def receipt(batch: BatchJob, result: bytes, outputs: bytes) -> Receipt:
            return Receipt(
                session=message.session,
                index=message.index,
                stream=batch.stream,
                model=batch.message.model,
                measurement=self._setting.measurement,
                times_ns=batch.times_ns,
                paced=batch.pace is not None,
                items=batch.items,
                hardware=self._setting.hardware,
                request=batch.request,
                inputs=batch.inputs.digest(),
                result=result,
                outputs=outputs,
                accelerator=batch.accelerator,
                confinement=self._confinement,
            )

        memory_bytes = self._setting.memory_bytes
        model_bytes = memory_bytes // _MODELS_SHARE if memory_bytes else STREAM_BYTES
        limits = SessionLimits(
            message.index,
            message.credit_bytes,
            message.open_streams,
            model_bytes=min(model_bytes, STREAM_BYTES),
            longest_step_s=self._setting.longest_batch_s * _STEP_SHARE,
        )
        reader, writer = SealedRecordReader(self._data, opener), SealedRecordWriter(self._data, sealer)
        self._enclave = EnclaveServer(
            reader, writer, limits, lambda *about: self._signer.sign(receipt(*about)), self._ended
        )
        log("assigned", index=message.index, session=message.session.hex())
        self._start()

    def _start(self) -> None:
        enclave = self._enclave
        if enclave is None or not (self._granted or self._started):
            return
        with enclave.engine.at_once():
            while self._granted:
                enclave.grant(self._granted.pop(0))
        if not self._started:
            self._started = True
            enclave.start()

    def _revoke(self, names: tuple[str, ...]) -> None:
        if self._enclave is None:
            self._granted = [one for one in self._granted if one.name not in names]
            for name in names:
                self._returned(name, "never used")
            return
        with self._enclave.engine.at_once():
            for name in names:
                self._enclave.engine.revoke(name, self._returned)

    def _returned(self, name: str, _cleaning: str) -> None:
        self._send(Kind.RETURNED, messages.Accelerators(accelerators=(name,)))

    def _begin_to_wipe(self, deadline_s: float) -> None:
        """Answer open streams until the deadline, on accelerators that are taken and given meanwhile. Then wipe."""
        self._wipe_s = time.monotonic() + deadline_s
        if self._enclave is not None:
            self._enclave.streams.draining = True

    def _wipe_when_drained(self) -> None:
        assert self._wipe_s is not None
        if self._enclave is not None and self._started and self._enclave.owes_answers(self._wipe_s):
            return
        wiped = messages.Wiped(wiped_bytes=0, answered=0, refused=0)
        if self._enclave is not None:
            if self._started:
                self._enclave.streams.refuse_all(refusal(Refusal.CANCELLED, "the enclave is being closed"))
            self._enclave.engine.close(_CLEANING_S, self._returned)
            self._wiping = True  # cutting the connection within a frame is not the client's fault from here on
            self._cut()
            wiped = self._enclave.wipe()
        self._wiped = True
        self._send(Kind.WIPED, wiped)
        log("wiped", wiped_bytes=wiped.wiped_bytes, answered=wiped.answered, refused=wiped.refused)

    def _cut(self) -> None:
        try:
            self._data.shutdown(socket.SHUT_RDWR)
        except OSError:
            log("data socket already closed")

    def _ended(self, error: HeteeError | None) -> None:
        """Handle the end of the client's side. The worker ends itself only if somebody broke the protocol."""
        if error is None or self._wiping:
            log("client gone")
            return
        assert self._enclave is not None
        self._cut()
        self._enclave.wipe()
        end(error)


def end(error: HeteeError) -> None:
    """End the process with the exit code of a refusal."""
    log("refused", code=error.code.name, detail=error.detail)
    os._exit(error.exit_code)


def end_on_fault(kind: type[BaseException], _error: BaseException | None, trace: TracebackType | None) -> None:
    """End the process after an unexpected exception; used as `sys.excepthook`.

    The log gets the type and the line numbers only, because the text of an exception may hold the tenant's data.
    """
    frames = traceback.extract_tb(trace)
    lines = [f"{frame.filename.rpartition('sectum/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
    log("fault", type=kind.__name__, lines=lines)
    os._exit(refusal(Refusal.INTERNAL, "").exit_code)
