"""Relays one client connection: routes each frame between client, controller and worker by its class."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.host.counts import Counts
from sectum.hetee.host.sockets import IncomingFrames, SinkEnded, Splicer, enlarge, receive_exactly
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.header import HEADER_BYTES, Header, parse
from sectum.hetee.wire.kinds import ALLOWED, FROM_CONTROLLER, UPSTREAM, Kind, Plane, Role
from sectum.hetee.wire.messages import Failure, encode

_FROM_WORKER = ALLOWED[Role.WORKER, Role.CLIENT]
_TO_WORKER = ALLOWED[Role.CLIENT, Role.WORKER]
_FINAL = frozenset({Kind.CLEANED, Kind.FAIL, Kind.ERROR})
_LAST_ANSWERS_S = 5.0


class Relay:
    """Forwards frames until one end closes, with a thread each for the client, the controller and the worker.

    Args:
        client: socket of the client.
        controller: a connection to the controller for this client.
        counts: counters of the host.
        peer: address of the client.
    """

    def __init__(self, client: socket.socket, controller: socket.socket, counts: Counts, peer: str = "") -> None:
        self._client, self._controller, self._counts, self.peer = client, controller, counts, peer
        self._route: socket.socket | None = None
        self._routes: dict[
            socket.socket, threading.Thread
        ] = {}  # each open worker socket, and the thread that reads it
        self._route_lock = threading.Lock()  # guards _route and _routes
        self._client_lock = threading.Lock()  # held while one frame is written to the client
        self._whole = True  # whether the client got the whole of the last frame
        self._last: Kind | None = None  # type of the controller's last frame
        self._ended = threading.Event()
        self.begun_s = time.monotonic()
        self.accepted = False  # whether the controller has opened the client's session

    def run(self) -> None:
        """Forward until the end, then close all sockets.

        They are closed only when no thread uses them any more, because the kernel reuses descriptor numbers at once.
        """
        downward = threading.Thread(target=self._guard, args=(self._from_controller,), name="from-controller")
        downward.start()
        self._guard(self._from_client)
        downward.join()
        for upward in self._routes.values():
            upward.join()
        for end in (self._client, self._controller, *self._routes):
            end.close()

    def _guard(self, forward: Callable[[Splicer], None]) -> None:
        """Run one direction. When it ends, send the client the reason and end the connection."""
        splicer = None
        try:
            splicer = Splicer()
            forward(splicer)
        except HeteeError as error:
            told = error.code is Refusal.CONTROLLER_LOST and self._last in _FINAL
            if not self._ended.is_set() and not told:
                self._counts.refused(error.code)
                self._tell(error.code, error.detail)
        except OSError:
            pass  # the client is gone, or no descriptor is left
        finally:
            if splicer is not None:
                splicer.close()
            self.end()

    def end(self) -> None:
        """Shut down all sockets, which wakes the threads that wait for them."""
        self._ended.set()
        with self._route_lock:
            ends = [self._client, self._controller, *self._routes]
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _tell(self, code: Refusal, detail: str) -> None:
        frame = plain_frame(Kind.ERROR, encode(Failure(code=code, detail=detail[:512])))
        with self._client_lock:
            if self._whole:
                with suppress(OSError):  # do not wait for a client that does not read
                    self._whole = self._client.send(frame, socket.MSG_DONTWAIT) == len(frame)

    # --- from the client ---

    def _from_client(self, splicer: Splicer) -> None:
        incoming = IncomingFrames(self._client)
        while True:
            try:
                header = incoming.header()
            except ConnectionError:
                return
            if header.kind not in UPSTREAM:
                raise refusal(Refusal.UNEXPECTED, f"{header.kind.name} from a client")
            if header.kind.plane is Plane.DATA:
                self._to_worker(header, incoming, splicer)
            else:
                self._to_controller(header, incoming, splicer)

    def _to_controller(self, header: Header, incoming: IncomingFrames, splicer: Splicer) -> None:
        try:
            self._pass_on("in", ([header], HEADER_BYTES + header.length), incoming, self._controller, splicer)
        except SinkEnded:
            # Its last frames may still be on their way to the client. The thread that forwards them sees the end, too.
            self._ended.wait(_LAST_ANSWERS_S)
            raise refusal(Refusal.CONTROLLER_LOST, "the controller's connection ended") from None

    def _to_worker(self, header: Header, incoming: IncomingFrames, splicer: Splicer) -> None:
        with self._route_lock:
            route = self._route
            if len(self._routes) > 1:
                self._close_ended()
        if route is None:
            n_bytes = HEADER_BYTES + header.length
            splicer.discard(self._client, n_bytes - len(incoming.take(n_bytes)))
            if header.kind is not Kind.CHUNK:  # NO_ROUTE was sent for its opening already
                self._counts.refused(Refusal.NO_ROUTE)
                self._tell(Refusal.NO_ROUTE, f"{header.kind.name} while no worker is routed")
            return
        try:
            self._pass_on("in", incoming.run(header, _TO_WORKER), incoming, route, splicer)
        except SinkEnded as error:
            splicer.discard(self._client, error.left)
            self._unroute()

    def _close_ended(self) -> None:
        """Close the sockets of workers that have ended. Only the thread that writes to them calls this."""
        for ended in [each for each, upward in self._routes.items() if not upward.is_alive()]:
            del self._routes[ended]
            ended.close()

    def _pass_on(
        self,
        direction: str,
        run: tuple[list[Header], int],
        incoming: IncomingFrames,
        sink: socket.socket,
        splicer: Splicer,
    ) -> None:
        """Forward a run of frames: send what is in memory with one call, then splice the rest of the last one.

        Raises:
            SourceEnded: the source ended too early.
            SinkEnded: the sink ended too early; its ``left`` bytes are still to be read from the source.
        """
        headers, n_bytes = run
        part = incoming.take(n_bytes)
        left = n_bytes - len(part)
        try:
            sink.sendall(part, socket.MSG_MORE if left else 0)
        except OSError:
            raise SinkEnded(left) from None
        splicer.move(incoming.source, sink, left)
        self._counts.forwarded(direction, headers)

    # --- from the controller ---

    def _from_controller(self, _mover: Splicer) -> None:
        while True:
            try:
                head, descriptors = self._receive_head()
                header = parse(head)
                payload = receive_exactly(self._controller, header.length)
            except OSError:
                raise refusal(Refusal.CONTROLLER_LOST, "the controller's connection ended") from None
            if header.kind not in FROM_CONTROLLER:
                raise refusal(Refusal.UNEXPECTED, f"{header.kind.name} from the controller")
            if header.kind is Kind.ROUTE:
                self._take_route(descriptors)
            elif header.kind is Kind.UNROUTE:
                self._unroute()
                # The worker has ended. What it sent last goes to the client before what the controller sends next.
                for upward in list(self._routes.values()):
                    upward.join(_LAST_ANSWERS_S)
            else:
                with self._client_lock:
                    self._whole = False
                    self._client.sendall(head + payload)
                    self._whole = True
                self._last = header.kind
                self.accepted = self.accepted or header.kind is Kind.ACCEPT
                self._counts.forwarded("out", [header])

    def _receive_head(self) -> tuple[bytes, list[int]]:
        head, descriptors = b"", []
        while len(head) < HEADER_BYTES:
            data, found, _, _ = socket.recv_fds(self._controller, HEADER_BYTES - len(head), 1)
            descriptors += found
            if not data:
                raise ConnectionResetError("ended")
            head += data
        return head, descriptors

    def _take_route(self, descriptors: list[int]) -> None:
        if not descriptors:
            raise refusal(Refusal.CONTROLLER_LOST, "ROUTE without a descriptor")
        route = socket.socket(fileno=descriptors[0])
        enlarge(route)
        upward = threading.Thread(target=self._from_worker, args=(route,), name="from-worker")
        with self._route_lock:
            self._route, self._routes[route] = route, upward
            upward.start()
        if self._ended.is_set():  # meanwhile
            self.end()

    def _unroute(self) -> None:
        """Forward nothing more to the worker. What it has sent still goes to the client."""
        with self._route_lock:
            self._route = None

    # --- from the worker ---

    def _from_worker(self, route: socket.socket) -> None:
        splicer, begun = None, False  # whether this thread has sent a part of a frame to the client
        try:
            splicer = Splicer()
            incoming = IncomingFrames(route)
            while True:
                header = incoming.header()
                if header.kind not in _FROM_WORKER:
                    raise refusal(Refusal.UNEXPECTED, f"{header.kind.name} from a worker")
                with self._client_lock:
                    begun, self._whole = True, False
                    self._pass_on("out", incoming.run(header, _FROM_WORKER), incoming, self._client, splicer)
                    begun, self._whole = False, True
        except HeteeError as error:
            self._counts.refused(error.code)
        except OSError:
            pass
        finally:
            if begun:  # the frame is cut off, so the client could not parse anything that follows
                self.end()
            with self._route_lock:
                if self._route is route:
                    self._route = None
            with suppress(OSError):
                route.shutdown(socket.SHUT_RDWR)
            if splicer is not None:
                splicer.close()
