"""One client connection: frames of client, controller and worker, each to where its class belongs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.host.counts import Counts
from sectum.hetee.host.sockets import Inflow, Mover, SinkEnded, enlarge, receive_exactly
from sectum.hetee.wire.frames import plain_frame
from sectum.hetee.wire.header import HEADER_BYTES, Header, parse
from sectum.hetee.wire.kinds import ALLOWED, FROM_CONTROLLER, UPSTREAM, Kind, Plane, Role
from sectum.hetee.wire.messages import Failure, encode

_FROM_WORKER = ALLOWED[Role.WORKER, Role.CLIENT]
_TO_WORKER = ALLOWED[Role.CLIENT, Role.WORKER]
_LAST_WORDS = frozenset({Kind.CLEANED, Kind.FAIL, Kind.ERROR})
_LAST_ANSWERS_S = 5.0


class Relay:
    """Forwards until one of its ends is gone. Three threads: from the client, from the controller, from the worker.

    Args:
        client: its socket.
        controller: a connection of its own to the controller.
        counts: what is counted.
    """

    def __init__(self, client: socket.socket, controller: socket.socket, counts: Counts) -> None:
        self._client, self._controller, self._counts = client, controller, counts
        self._route: socket.socket | None = None
        self._routes: dict[socket.socket, threading.Thread] = {}  # all that are open, and who reads from each
        self._route_lock = threading.Lock()  # guards both
        self._client_lock = threading.Lock()  # one frame at a time
        self._whole = True  # whether the client got all of the last frame
        self._last: Kind | None = None  # what the controller said last
        self._ended = threading.Event()

    def run(self) -> None:
        """Forward until the end; then all sockets are closed.

        Not before nobody uses them: the number of one that is closed is soon that of another connection.
        """
        downward = threading.Thread(target=self._guard, args=(self._from_controller,), name="from-controller")
        downward.start()
        self._guard(self._from_client)
        downward.join()
        for upward in self._routes.values():
            upward.join()
        for end in (self._client, self._controller, *self._routes):
            end.close()

    def _guard(self, forward: Callable[[Mover], None]) -> None:
        """Run one direction; its end is the end of the connection, and the client is told why."""
        mover = Mover()
        try:
            forward(mover)
        except HeteeError as error:
            said = error.code is Refusal.CONTROLLER_LOST and self._last in _LAST_WORDS
            if not self._ended.is_set() and not said:
                self._counts.refused(error.code)
                self._tell(error.code, error.detail)
        except OSError:
            pass  # the client is gone
        finally:
            mover.close()
            self.end()

    def end(self) -> None:
        """Wake everybody who waits for a socket of this connection."""
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
                with suppress(OSError):  # a client that reads nothing is not waited for
                    self._whole = self._client.send(frame, socket.MSG_DONTWAIT) == len(frame)

    # --- from the client ---

    def _from_client(self, mover: Mover) -> None:
        inflow = Inflow(self._client)
        while True:
            try:
                header = inflow.header()
            except ConnectionError:
                return
            if header.kind not in UPSTREAM:
                raise refusal(Refusal.UNEXPECTED, f"{header.kind.name} from a client")
            if header.kind.plane is Plane.DATA:
                self._to_worker(header, inflow, mover)
            else:
                self._to_controller(header, inflow, mover)

    def _to_controller(self, header: Header, inflow: Inflow, mover: Mover) -> None:
        try:
            self._pass_on("in", [header], inflow, self._controller, mover)
        except SinkEnded:
            raise refusal(Refusal.CONTROLLER_LOST, "the controller's connection ended") from None

    def _to_worker(self, header: Header, inflow: Inflow, mover: Mover) -> None:
        with self._route_lock:
            route = self._route
            for ended in [each for each, upward in self._routes.items() if not upward.is_alive()]:
                del self._routes[ended]
                ended.close()  # this thread is the only one that writes to it
        if route is None:
            n_bytes = HEADER_BYTES + header.length
            mover.discard(self._client, n_bytes - len(inflow.take(n_bytes)))
            if header.kind is not Kind.CHUNK:  # its opening was told already
                self._counts.refused(Refusal.NO_ROUTE)
                self._tell(Refusal.NO_ROUTE, f"{header.kind.name} while no worker is routed")
            return
        try:
            self._pass_on("in", inflow.run(header, _TO_WORKER), inflow, route, mover)
        except SinkEnded as error:
            mover.discard(self._client, error.left)
            self._unroute()

    def _pass_on(
        self, direction: str, headers: list[Header], inflow: Inflow, sink: socket.socket, mover: Mover
    ) -> None:
        """Move the next frames: what of them is in memory with one call, then the rest of the last one.

        Raises:
            SourceEnded: before all came.
            SinkEnded: before all went; its ``left`` are still to be read from the source.
        """
        n_bytes = sum(HEADER_BYTES + header.length for header in headers)
        part = inflow.take(n_bytes)
        left = n_bytes - len(part)
        try:
            sink.sendall(part, socket.MSG_MORE if left else 0)
        except OSError:
            raise SinkEnded(left) from None
        mover.move(inflow.source, sink, left)
        for header in headers:
            self._counts.forwarded(direction, header.kind.plane, HEADER_BYTES + header.length)

    # --- from the controller ---

    def _from_controller(self, _mover: Mover) -> None:
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
                for upward in list(
                    self._routes.values()
                ):  # the worker has ended: its last words go before what follows
                    upward.join(_LAST_ANSWERS_S)
            else:
                with self._client_lock:
                    self._whole = False
                    self._client.sendall(head + payload)
                    self._whole = True
                self._last = header.kind
                self._counts.forwarded("out", header.kind.plane, HEADER_BYTES + header.length)

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
        """Forward nothing more to the worker; what it has sent still goes to the client."""
        with self._route_lock:
            self._route = None

    # --- from the worker ---

    def _from_worker(self, route: socket.socket) -> None:
        mover = Mover()
        begun = False  # of frames of this thread: another one may be sending a whole frame of the controller's
        try:
            inflow = Inflow(route)
            while True:
                header = inflow.header()
                if header.kind not in _FROM_WORKER:
                    raise refusal(Refusal.UNEXPECTED, f"{header.kind.name} from a worker")
                with self._client_lock:
                    begun, self._whole = True, False
                    self._pass_on("out", inflow.run(header, _FROM_WORKER), inflow, self._client, mover)
                    begun, self._whole = False, True
        except HeteeError as error:
            self._counts.refused(error.code)
        except OSError:
            pass
        finally:
            if begun:  # cut off within a frame: nothing that follows could be told from its rest
                self.end()
            with self._route_lock:
                if self._route is route:
                    self._route = None
            with suppress(OSError):
                route.shutdown(socket.SHUT_RDWR)
            mover.close()
