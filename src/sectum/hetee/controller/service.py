"""The controller's process: gives `Controller` its sockets, its worker processes and its clock."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import struct
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from sectum.hetee.attest.attestation_key import AttestationKey
from sectum.hetee.attest.evidence import Subject
from sectum.hetee.controller.controller import Controller
from sectum.hetee.controller.frame_socket import FrameSocket
from sectum.hetee.controller.settings import Settings
from sectum.hetee.controller.worker_supervisor import WorkerStart, WorkerSupervisor, log
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire.kinds import ALLOWED, Role

_TICK_S = 0.05
_BACK_OFF_S = 0.1  # while no descriptor is left for another connection
_OTHERS = 64  # connections of the host that are no sessions yet, or ask for counts
_FROM_HOST = ALLOWED[Role.CLIENT, Role.CONTROLLER] | ALLOWED[Role.HOST, Role.CONTROLLER]


def _peer_user(peer: socket.socket) -> int:
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


class ControllerService(WorkerSupervisor):
    """Runs a `Controller` until it is told to stop and no session is left.

    Args:
        settings: limits.
        attester: holds the attestation key.
        subject: this controller, as its evidence describes it.
        listener: bound socket on which hosts connect.
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
        super().__init__(workers)
        self._controller = Controller(settings, attester, subject, self, time.monotonic)
        self._listener, self._users = listener, hosts or (os.geteuid(),)
        listener.listen(128)
        listener.setblocking(False)
        self._hosts: dict[int, FrameSocket] = {}
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

    # --- events ---

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
        self._watch(woken, lambda _: woken.recv(64))
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
