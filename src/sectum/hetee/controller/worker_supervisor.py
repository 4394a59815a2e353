"""The half of the controller's environment that concerns workers: starts them, reads them, stops and collects them."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from sectum.hetee.confinement.users import worker_user
from sectum.hetee.controller.controller import Controller
from sectum.hetee.controller.environment import StartedProcess
from sectum.hetee.controller.frame_socket import FrameSocket
from sectum.hetee.controller.memory import private_bytes
from sectum.hetee.controller.worker_process import WorkerProcess
from sectum.hetee.errors import HeteeError
from sectum.hetee.role_log import log_event
from sectum.hetee.wire.kinds import ALLOWED, Role

_LOG_BYTES = 256 << 10  # that a worker may write in its life


def log(event: str, **fields: object) -> None:
    """Log an event of this process."""
    log_event("controller", event, **fields)


@dataclass(frozen=True)
class WorkerStart:
    """How workers are started.

    Attributes:
        command: command that starts a worker.
        environment: all environment variables of a worker.
        measurement: measurement of the image that the command runs, 32 bytes.
        user: user id of this controller, from which those of workers follow; 0 if workers keep the user.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    measurement: bytes
    user: int = 0

    def arguments(self, number: int, devices: tuple[str, ...] = ()) -> tuple[str, ...]:
        """What is appended to the command for the worker with this number, and with these devices."""
        user = ("--user", str(worker_user(self.user, number))) if self.user else ()
        # A driver reserves more memory than it uses.
        own = ("--accelerators", ",".join(devices), "--memory-mib", "0") if devices else ()
        return ("--new-process", "--measurement", self.measurement.hex(), *user, *own)


class WorkerSupervisor:
    """Runs the workers of a `Controller`, which a subclass makes, and tells it what they do.

    Args:
        start: how workers are started.
    """

    _controller: Controller

    def __init__(self, start: WorkerStart) -> None:
        self._selector = selectors.DefaultSelector()
        self._start = start
        self._links: dict[int, FrameSocket] = {}
        self._workers: dict[int, WorkerProcess] = {}
        self._stopping: set[int] = set()

    def _watch(
        self, file: socket.socket | int, act: Callable[[int], object], events: int = selectors.EVENT_READ
    ) -> None:
        self._selector.register(file, events, act)

    # --- implements `environment.Environment` ---

    def start(self, worker: int, devices: tuple[str, ...] = ()) -> StartedProcess:
        """Start a worker."""
        command = (*self._start.command, *self._start.arguments(worker, devices))
        process = WorkerProcess(command, self._start.environment)
        self._workers[worker] = process
        self._links[worker] = FrameSocket(process.link, ALLOWED[Role.WORKER, Role.CONTROLLER])
        self._watch(process.link, lambda _: self._read_link(worker))
        self._watch(process.pidfd, lambda _: self._collect(worker))
        assert process.log is not None
        self._watch(process.log, lambda _: self._read_log(process))
        return StartedProcess(process.pid, self._start.measurement)

    def send_to_worker(self, worker: int, frame: bytes) -> None:
        """Send a frame to a worker."""
        if stream := self._links.get(worker):
            with suppress(OSError, HeteeError):
                stream.send(frame)
            if stream.unsent:  # it has ended, or has left hundreds of messages unread
                self.kill(worker)

    def kill(self, worker: int) -> None:
        """Kill a worker, and read nothing more from it."""
        if self._links.pop(worker, None):
            self._selector.unregister(self._workers[worker].link)
        self._workers[worker].kill()

    def memory_bytes(self, worker: int) -> int:
        """Private memory that a worker holds now; 0 if it has ended."""
        process = self._workers.get(worker)
        return private_bytes(process.pid) if process is not None else 0

    def stop(self, worker: int) -> None:
        """Have the kernel stop a worker."""
        self._stopping.add(worker)
        self._workers[worker].stop()

    def resume(self, worker: int) -> None:
        """Let a stopped worker go on."""
        self._workers[worker].resume()

    def processor_s(self, worker: int) -> float:
        """Processor time that a worker has used, in seconds."""
        return self._workers[worker].processor_s()

    def log(self, event: str, **fields: object) -> None:
        """Write a line to the log."""
        log(event, **fields)

    # --- events ---

    def _read_link(self, worker: int) -> None:
        stream = self._links.get(worker)
        if stream is None:
            return
        try:
            for frame in stream.frames():
                self._controller.linked(worker, frame)
                if worker not in self._links:
                    return
        except HeteeError as error:
            self._controller.misbehaved(worker, error)
        except OSError:
            self.kill(worker)  # without a link it cannot be told to stop
        except Exception as fault:  # noqa: BLE001  # whatever a worker can cause ends that worker, never the controller
            log("fault", type=type(fault).__name__, worker=worker)
            self.kill(worker)

    def _read_log(self, process: WorkerProcess) -> bool:
        """Pass on a piece of what a worker logs, without looking at it; returns whether there was one."""
        if process.log is None:  # it ended in this turn
            return False
        text = process.written()
        if text:
            log("worker_output", pid=process.pid, text=text)
        full = process.log_bytes > _LOG_BYTES
        if full:
            log("worker_log_full", pid=process.pid, limit_bytes=_LOG_BYTES)
        if full or text is None:
            self._selector.unregister(process.log)
            process.close_log()
        return bool(text)

    def _collect(self, worker: int) -> None:
        process = self._workers[worker]
        # If `follow` fails, the next turn tries again, because the end is still watched for.
        pidfd, moved = process.pidfd, process.follow()
        self._selector.unregister(pidfd)
        if moved:
            self._watch(process.pidfd, lambda _: self._collect(worker))
            self._controller.moved(worker, process.pid)
            return
        while self._read_log(process):
            pass
        if process.log is not None:
            self._selector.unregister(process.log)
        if self._links.pop(worker, None):
            self._selector.unregister(process.link)
        ended = self._workers.pop(worker).collect()
        self._stopping.discard(worker)
        self._controller.collected(worker, ended)

    def _see_stops(self) -> None:
        for worker in [worker for worker in self._stopping if self._workers[worker].stopped()]:
            self._stopping.discard(worker)
            self._controller.stopped(worker)
