"""A relay forwards each frame whole to the right peer, and says why it ends."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from hetee_simple_reader import SimpleFrameReader
from sectum.hetee.errors import Refusal
from sectum.hetee.host.counts import Counts
from sectum.hetee.host.relay import Relay
from sectum.hetee.host.sockets import receive_exactly
from sectum.hetee.wire.frames import Frame, plain_frame
from sectum.hetee.wire.header import HEADER_BYTES, Header
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.messages import Empty, Failure, decode, encode

SESSION = b"s" * 16


def sealed(kind: Kind, n_bytes: int = 40, **fields: int) -> bytes:
    """A frame that looks sealed: a host cannot tell."""
    return Header(kind, n_bytes, session=SESSION, **fields).pack() + os.urandom(n_bytes)


def chunk(n_bytes: int) -> bytes:
    """A chunk with so many bytes of payload."""
    return sealed(Kind.CHUNK, n_bytes, stream=1, chunks=1, total=n_bytes - 16)


def read_frame(peer: socket.socket) -> Frame:
    """The next frame that comes."""
    peer.settimeout(5)
    reader = SimpleFrameReader(frozenset(Kind))
    while True:
        n_bytes = peer.recv_into(reader.writable())
        assert n_bytes, "the connection ended"
        if frame := reader.advance(n_bytes):
            return frame


@dataclass
class Ends:
    """The other ends of a relay's sockets."""

    client: socket.socket
    controller: socket.socket
    counts: Counts
    thread: threading.Thread
    relay: Relay

    def route(self) -> socket.socket:
        """Give the relay a worker's socket; its other end."""
        worker, host = socket.socketpair()
        frame = plain_frame(Kind.ROUTE, encode(Empty()), stream=1)
        socket.send_fds(self.controller, [frame], [host.fileno()])
        host.close()
        return worker


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A relay that runs."""
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    host_client, _ = server.accept()
    server.close()
    controller, host_controller = socket.socketpair()
    counts = Counts()
    relay = Relay(host_client, host_controller, counts)
    thread = threading.Thread(target=relay.run)
    thread.start()
    yield Ends(client, controller, counts, thread, relay)
    for end in (client, controller):
        end.close()
    thread.join(5)
    assert not thread.is_alive()


def test_handshake_and_control_go_to_the_controller_and_back(ends: Ends) -> None:
    """Both classes go to the controller's connection unchanged, and its answers to the client."""
    for frame in (plain_frame(Kind.HELLO, bytes(1250)), sealed(Kind.CONFIGURE, 900)):
        ends.client.sendall(frame)
        assert receive_exactly(ends.controller, len(frame)) == frame
    answer = sealed(Kind.VOUCH, 60_000)
    ends.controller.sendall(answer)
    assert receive_exactly(ends.client, len(answer)) == answer


@pytest.mark.parametrize("n_bytes", [17, 4096, 256 * 1024 + 16, (1 << 20) + 16])
def test_data_goes_to_the_routed_worker_and_back(ends: Ends, n_bytes: int) -> None:
    """Chunks of every size arrive bit for bit, in both directions."""
    with ends.route() as worker:
        ends.controller.sendall(sealed(Kind.PONG))
        receive_exactly(ends.client, HEADER_BYTES + 40)  # the route was taken before it
        for source, sink in ((ends.client, worker), (worker, ends.client)):
            frame = chunk(n_bytes)
            sender = threading.Thread(target=source.sendall, args=(frame,))
            sender.start()
            assert receive_exactly(sink, len(frame)) == frame
            sender.join()


def test_sockets_are_closed_when_nobody_uses_them_any_more(ends: Ends) -> None:
    """A client that disconnects in the middle of a result ends its worker's connection."""
    with ends.route() as worker:
        worker.sendall(chunk((1 << 20) + 16)[: 1 << 18])
        receive_exactly(ends.client, 1 << 16)
        ends.client.close()
        worker.settimeout(5)
        with suppress(ConnectionError):
            assert worker.recv(1) == b""
        ends.thread.join(5)
        assert not ends.thread.is_alive()
        assert all(not upward.is_alive() and route.fileno() == -1 for route, upward in ends.relay._routes.items())
        assert ends.relay._routes


def test_sockets_of_workers_that_ended_do_not_pile_up(ends: Ends) -> None:
    """A session that loses worker after worker holds the sockets of the last ones only."""
    for _ in range(5):
        with ends.route() as worker:
            ends.controller.sendall(sealed(Kind.PONG))
            receive_exactly(ends.client, HEADER_BYTES + 40)  # the route was taken before it
            frame = sealed(Kind.PING_WORKER)
            ends.client.sendall(frame)
            assert receive_exactly(worker, len(frame)) == frame
        ends.controller.sendall(plain_frame(Kind.UNROUTE, encode(Empty()), stream=1) + sealed(Kind.PONG))
        receive_exactly(ends.client, HEADER_BYTES + 40)
        assert len(ends.relay._routes) <= 2


def test_frames_that_came_together_arrive_in_their_order(ends: Ends) -> None:
    """Small frames and the beginning of a large one, sent at once, arrive bit for bit, in both directions."""
    with ends.route() as worker:
        ends.controller.sendall(sealed(Kind.PONG))
        receive_exactly(ends.client, HEADER_BYTES + 40)
        opening = sealed(Kind.BATCH, 300, stream=1, chunks=1, total=100_000)
        result = sealed(Kind.RESULT, 300, stream=1, chunks=1, total=100_000)
        receipt = sealed(Kind.RECEIPT, 400, stream=1)
        for source, sink, frames in (
            (ends.client, worker, opening + chunk(100_016) + sealed(Kind.CANCEL, 40, stream=1)),
            (worker, ends.client, result + chunk(20_000) + receipt + chunk(100_016) + receipt),
        ):
            sender = threading.Thread(target=source.sendall, args=(frames,))
            sender.start()
            assert receive_exactly(sink, len(frames)) == frames
            sender.join()
        # Frames are counted when they have gone. What follows goes after that, in either direction.
        ends.client.sendall(sealed(Kind.PING))
        assert read_frame(ends.controller).header.kind is Kind.PING
    ends.controller.sendall(plain_frame(Kind.UNROUTE, encode(Empty()), stream=1) + sealed(Kind.PONG))
    receive_exactly(ends.client, HEADER_BYTES + 40)
    counted = ends.counts.json()["frames"]
    assert (counted["in_data"], counted["out_data"]) == (3, 5)  # type: ignore[index]


def test_a_small_frame_that_was_cut_off_is_not_begun(ends: Ends) -> None:
    """A small frame is forwarded only when it is complete, so a cut-off one does not end the connection."""
    with ends.route() as worker:
        ends.controller.sendall(sealed(Kind.PONG))
        receive_exactly(ends.client, HEADER_BYTES + 40)
        worker.sendall(chunk(5_000)[:3_000])
    ends.controller.sendall(sealed(Kind.QUEUED))
    assert read_frame(ends.client).header.kind is Kind.QUEUED


def test_data_without_a_route_is_dropped_and_said_once_a_stream(ends: Ends) -> None:
    """NO_ROUTE keeps the connection, swallows the chunks that follow, and what comes later is forwarded."""
    opening = sealed(Kind.BATCH, 100, stream=1, chunks=1, total=200_000)
    ends.client.sendall(opening + chunk(200_016) + sealed(Kind.PING))
    error = read_frame(ends.client)
    assert error.header.kind is Kind.ERROR
    assert decode(error.payload, Failure).code is Refusal.NO_ROUTE
    assert read_frame(ends.controller).header.kind is Kind.PING
    ends.controller.sendall(sealed(Kind.PONG))
    assert read_frame(ends.client).header.kind is Kind.PONG


def test_a_worker_that_ends_takes_its_route_and_not_the_connection(ends: Ends) -> None:
    """After the worker's socket ended data has no route, and the controller can give another."""
    ends.route().close()
    while True:
        ends.client.sendall(sealed(Kind.FINISH))
        ends.client.settimeout(0.2)
        try:
            assert read_frame(ends.client).header.kind is Kind.ERROR
            break
        except TimeoutError:
            continue
    with ends.route() as worker:
        ends.controller.sendall(sealed(Kind.PONG))
        while read_frame(ends.client).header.kind is not Kind.PONG:
            pass
        frame = sealed(Kind.FINISH)
        ends.client.sendall(frame)
        assert receive_exactly(worker, len(frame)) == frame


def test_what_a_worker_said_last_comes_before_what_the_controller_says_of_its_end(ends: Ends) -> None:
    """Results that wait in the socket of a collected worker are forwarded before LOST or CLEANED."""
    worker = ends.route()
    last = b"".join(sealed(Kind.CREDIT) for _ in range(200))
    worker.sendall(last)
    worker.close()
    ends.controller.sendall(plain_frame(Kind.UNROUTE, encode(Empty()), stream=1) + sealed(Kind.CLEANED))
    assert receive_exactly(ends.client, len(last)) == last
    assert read_frame(ends.client).header.kind is Kind.CLEANED


@pytest.mark.parametrize(
    "frame",
    [
        b"GET / HTTP/1.1\r\n".ljust(64),
        plain_frame(Kind.STATUS, b"\x80"),
        plain_frame(Kind.GRANT, b"\x80"),
        plain_frame(Kind.ERROR, b"\x80"),
        sealed(Kind.READY),
    ],
)
def test_what_a_client_may_not_send_ends_its_connection(ends: Ends, frame: bytes) -> None:
    """Bytes that are no header, and frames of links or the other direction, give an ERROR and end the connection."""
    ends.client.sendall(frame)
    error = read_frame(ends.client)
    code = decode(error.payload, Failure).code
    assert code in (Refusal.BAD_MAGIC, Refusal.UNEXPECTED)
    assert ends.client.recv(1) == b""
    assert ends.counts.json()["refused"] == {code.name: 1}


def test_a_controller_that_is_gone_is_told_to_the_client(ends: Ends) -> None:
    """When the controller's connection ends without its last word, the client gets CONTROLLER_LOST."""
    ends.controller.close()
    error = read_frame(ends.client)
    assert decode(error.payload, Failure).code is Refusal.CONTROLLER_LOST
    assert ends.client.recv(1) == b""


def test_an_end_that_the_controller_has_explained_is_no_loss(ends: Ends) -> None:
    """The end of the controller's connection after CLEANED causes no ERROR."""
    ends.controller.sendall(sealed(Kind.CLEANED))
    ends.controller.close()
    assert read_frame(ends.client).header.kind is Kind.CLEANED
    assert ends.client.recv(1) == b""
    assert ends.counts.json()["refused"] == {}


def test_a_message_that_comes_too_late_does_not_cut_off_what_the_controller_said_last() -> None:
    """A client that sends a PING when the controller has ended still gets the record of its enclave's end."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    server.bind(("127.0.0.1", 0))
    server.listen()
    client, (controller, host_controller) = socket.socket(), socket.socketpair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(server.getsockname())
    host_client, _ = server.accept()
    last = [sealed(Kind.PONG, 40_000) for _ in range(3)] + [sealed(Kind.CLEANED)]
    with client, server:
        thread = threading.Thread(target=Relay(host_client, host_controller, Counts()).run)
        thread.start()
        controller.sendall(b"".join(last))
        controller.close()
        client.sendall(sealed(Kind.PING))
        time.sleep(0.2)  # the client has not read yet, so that most of it still lies with the relay
        assert receive_exactly(client, sum(map(len, last))) == b"".join(last)
        thread.join(5)
        assert not thread.is_alive()


def test_a_worker_that_is_cut_off_within_a_frame_ends_the_connection(ends: Ends) -> None:
    """Half a frame cannot be followed by another: the client's connection ends, and nothing is put in its place."""
    with ends.route() as worker:
        frame = chunk(500_000)
        sender = threading.Thread(target=worker.sendall, args=(frame[:100_000],))
        sender.start()
        assert receive_exactly(ends.client, 50_000) == frame[:50_000]
        sender.join()
    rest = b""
    while part := ends.client.recv(1 << 20):
        rest += part
    assert frame[50_000:100_000].startswith(rest)


def test_a_client_that_goes_ends_both_other_sides(ends: Ends) -> None:
    """The controller and the worker see the end of their sockets when the client has gone."""
    worker = ends.route()
    ends.controller.sendall(sealed(Kind.PONG))
    read_frame(ends.client)
    ends.client.close()
    for other in (ends.controller, worker):
        other.settimeout(5)
        assert other.recv(1) == b""
    worker.close()
