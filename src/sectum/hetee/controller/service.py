"""The controller's process: gives `Controller` its sockets, its worker processes and its clock."""

from __future__ import annotations

import json
import os
import select
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sectum.hetee.attest.attestation_key import AttestationKey
from sectum.hetee.attest.evidence import Subject
from sectum.hetee.confinement.users import worker_user
from sectum.hetee.controller.controller import Controller
from sectum.hetee.controller.environment import StartedProcess
from sectum.hetee.controller.frame_socket import FrameSocket
from sectum.hetee.controller.memory import private_bytes
from sectum.hetee.controller.processes import WorkerProcess
from sectum.hetee.controller.settings import Settings
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.role_log import attributed, log_event
from sectum.hetee.wire.kinds import ALLOWED, Role

_TICK_S = 0.05
_BACK_OFF_S = 0.1  # while no descriptor is left for another connection
_OTHERS = 64  # connections of the host that are no sessions yet, or ask for counts
_LOG_BYTES = 256 << 10  # that a worker may write in its life
_FROM_HOST = ALLOWED[Role.CLIENT, Role.CONTROLLER] | ALLOWED[Role.HOST, Role.CONTROLLER]


def log(event: str, **fields: object) -> None:
    """Log an event of this process."""
    log_event("controller", event, **fields)


def listen(path: Path) -> socket.socket:
    """Listen on a Unix socket to which only this user, and the group of its folder, can connect.

    Raises:
        ServiceRefused: another controller listens there, or others can enter the folder, or its group can write there.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.parent.stat().st_mode & 0o067:
        raise refusal(Refusal.INTERNAL, f"other users can enter {path.parent}; expected mode 0700 or 0710")
    if path.exists():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                path.unlink()  # left behind by a controller that was killed
            else:
                raise refusal(Refusal.INTERNAL, f"another controller listens on {path}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o117)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise refusal(Refusal.INTERNAL, f"cannot listen on {path}: {error}") from None
    finally:
        os.umask(mask)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def _peer_user(peer: socket.socket) -> int:
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def _discard(woken: socket.socket) -> None:
    woken.recv(64)


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


class ControllerService:
    """Runs a `Controller` until it is told to stop and no session is left.

    Args:
        settings: limits.
        attester: holds the attestation key.
        subject: this controller, as its evidence describes it.
        listener: socket on which hosts connect.
        workers: how workers are started.
        hosts: user ids that may connect; None for this process's own only.
    """

    def __init__(
        self,
        settings: Settings,
        attester: AttestationKey,
        subject: Subject,
        listener: socket.socket,
        workers: WorkerStart,
        hosts: Collection[int] | None = None,
    ) -> None:
        self._controller = Controller(settings, attester, subject, self, time.monotonic)
        self._selector = selectors.DefaultSelector()
        self._listener, self._start, self._users = listener, workers, hosts or (os.geteuid(),)
        self._hosts: dict[int, FrameSocket] = {}
        self._links: dict[int, FrameSocket] = {}
        self._workers: dict[int, WorkerProcess] = {}
        self._stopping: set[int] = set()
        self._numbers = 0
        self._stops = 0
        self._places, self._deaf_until_s = settings.sessions + _OTHERS, 0.0

    # --- implements `environment.Environment` ---

    def send(self, connection: int, frame: bytes | bytearray, *, data_of: int | None = None) -> None:
        """Send a frame to the host, and with ``data_of`` that worker's data socket, which is then closed here."""
        stream = self._hosts.get(connection)
        if stream is None:
            return
        descriptor = None
        if data_of is not None:
            worker = self._workers[data_of]
            descriptor, worker.data = worker.data, None
        try:
            stream.send(frame, descriptor)
        except (HeteeError, OSError):
            # The connection's end is handled at the next read, not here in the middle of a decision.
            with suppress(OSError):
                stream.socket.shutdown(socket.SHUT_RD)
        self._watch_host(connection)

    def close(self, connection: int) -> None:
        """Close a connection when everything has been sent."""
        if stream := self._hosts.get(connection):
            stream.closing = True
            self._watch_host(connection)

    def start(self, worker: int, devices: tuple[str, ...] = ()) -> StartedProcess:
        """Start a worker."""
        command = (*self._start.command, *self._start.arguments(worker, devices))
        process = WorkerProcess(command, self._start.environment)
        self._workers[worker] = process
        self._links[worker] = FrameSocket(process.link, ALLOWED[Role.WORKER, Role.CONTROLLER])
        self._watch(process.link, lambda _: self._read_link(worker))
        self._watch(process.pidfd, lambda _: self._collect(worker))
        assert process.log is not None
        self._watch(process.log.pipe, lambda _: self._read_log(process))
        return process.started(self._start.measurement)

    def send_to_worker(self, worker: int, frame: bytes) -> None:
        """Send a frame to a worker."""
        if stream := self._links.get(worker):
            with suppress(ConnectionError, HeteeError):  # its pidfd reports the worker's end
                stream.send(frame)

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

    def _watch(self, file: socket.socket | int, act: Callable[[int], None], events: int = selectors.EVENT_READ) -> None:
        self._selector.register(file, events, act)

    def _watch_host(self, connection: int) -> None:
        stream = self._hosts[connection]
        if stream.closing and not stream.unsent:
            self._drop(connection)
            return
        events = (0 if stream.closing else selectors.EVENT_READ) | (selectors.EVENT_WRITE if stream.unsent else 0)
        key = self._selector.get_key(stream.socket)
        if events != key.events:
            self._selector.modify(stream.socket, events, key.data)

    def _drop(self, connection: int) -> None:
        stream = self._hosts.pop(connection)
        self._selector.unregister(stream.socket)
        stream.close()

    def _accept(self, _events: int) -> None:
        try:
            peer, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # no descriptor is left: do not listen until one may be
            log("cannot_accept", why=str(error))
            self._make_place()
            self._selector.unregister(self._listener)
            self._deaf_until_s = time.monotonic() + _BACK_OFF_S
            return
        if _peer_user(peer) not in self._users:
            log("stranger_refused", user=_peer_user(peer))
            peer.close()
            return
        if len(self._hosts) >= self._places and not self._make_place():
            peer.close()
            return
        self._numbers += 1
        number = self._numbers
        self._hosts[number] = FrameSocket(peer, _FROM_HOST)
        self._watch(peer, lambda events: self._serve_host(number, events))
        self._controller.connected(number)

    def _make_place(self) -> bool:
        """Drop a connection that only waits to be read, or the oldest one without a session; False if there is none."""
        leaving = next((number for number, stream in self._hosts.items() if stream.closing), None)
        if leaving is None:
            return self._controller.end_oldest_stranger()
        self._drop(leaving)
        return True

    def _listen_again(self) -> None:
        if self._deaf_until_s and time.monotonic() >= self._deaf_until_s:
            self._deaf_until_s = 0.0
            self._watch(self._listener, self._accept)

    def _safely(self, act: Callable[..., object], *arguments: object) -> None:
        """Do something whose failure must not end this process: all sessions would end with it."""
        try:
            act(*arguments)
        except Exception as fault:  # noqa: BLE001  # it is logged; the others go on
            log("fault", type=type(fault).__name__, where=getattr(act, "__name__", ""))
            time.sleep(_TICK_S)  # what fails again at once must not take the whole processor

    def _serve_host(self, connection: int, events: int) -> None:
        stream = self._hosts.get(connection)
        if stream is None:
            return
        try:
            if events & selectors.EVENT_WRITE:
                stream.flush()
            if events & selectors.EVENT_READ:
                for frame in stream.frames():
                    self._controller.received(connection, frame)
                    if stream.closing:
                        break
        except HeteeError as error:
            self._controller.refused(connection, error)
        except OSError:
            stream.closing = True
            stream.forget()
        except Exception as fault:  # noqa: BLE001  # whatever a host can cause ends its connection, never the controller
            log("fault", type=type(fault).__name__, connection=connection)
            self._controller.refused(connection, refusal(Refusal.INTERNAL, "the controller failed"))
        if connection in self._hosts:
            gone = stream.closing and not stream.unsent
            self._watch_host(connection)
            if gone:
                self._controller.disconnected(connection)

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

    def _read_log(self, process: WorkerProcess) -> None:
        """Pass on what a worker logs, as its own words, up to a limit."""
        assert process.log is not None
        lines = process.log.lines()
        for line in lines or ():
            sys.stderr.write(json.dumps(attributed(line, ("worker",), process.pid) | {"pid": process.pid}) + "\n")
        sys.stderr.flush()
        if lines is None or process.log.read_bytes > _LOG_BYTES:
            if lines is not None:
                log("worker_log_full", pid=process.pid, limit_bytes=_LOG_BYTES)
            self._selector.unregister(process.log.pipe)
            process.close_log()

    def _collect(self, worker: int) -> None:
        process = self._workers[worker]
        self._selector.unregister(process.pidfd)
        if process.follow():
            self._watch(process.pidfd, lambda _: self._collect(worker))
            self._controller.moved(worker, process.pid)
            return
        while process.log is not None and select.select([process.log.pipe], [], [], 0)[0]:
            self._read_log(process)
        if process.log is not None:
            self._selector.unregister(process.log.pipe)
        if self._links.pop(worker, None):
            self._selector.unregister(process.link)
        ended = process.collect()
        del self._workers[worker]
        self._stopping.discard(worker)
        self._controller.collected(worker, ended)

    def _see_stops(self) -> None:
        for worker in [worker for worker in self._stopping if self._workers[worker].stopped()]:
            self._stopping.discard(worker)
            self._controller.stopped(worker)

    # --- running ---

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain; a second signal ends at once."""
        woken, waker = socket.socketpair()
        for end in (woken, waker):
            end.setblocking(False)
        before = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)  # wakes `select`
        self._watch(self._listener, self._accept)
        self._watch(woken, lambda _: _discard(woken))
        try:
            while self._stops < 2 and not self._controller.drained:
                for key, events in self._selector.select(_TICK_S):
                    self._safely(key.data, events)
                self._safely(self._see_stops)
                if self._stops:
                    self._safely(self._controller.drain)
                self._safely(self._controller.tick)
                self._listen_again()
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self._end()
            woken.close()
            waker.close()

    def _stop(self, _number: int, _frame: object) -> None:
        self._stops += 1

    def _end(self) -> None:
        for process in self._workers.values():
            process.kill()
        for process in self._workers.values():
            process.collect()
        for stream in self._hosts.values():
            stream.close()
        self._listener.close()
        self._selector.close()
