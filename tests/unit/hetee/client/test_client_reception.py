"""Who waits for an answer receives it; else a thread in the background does. A byte stands for a frame here."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sectum.hetee.client.reception import Reception
from sectum.hetee.errors import HeteeError, Refusal, refusal


class Bytes:
    """Stands for a connection."""

    frame_begun = False

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self, take: Callable[[Any], None]) -> HeteeError | None:
        data = self._socket.recv(1)
        if not data:
            return refusal(Refusal.HOST_LOST, "the connection ended")
        take(data)
        return None


class Client:
    """A reception, and what it took in which thread."""

    def __init__(self) -> None:
        self.peer, ours = socket.socketpair()
        self.changed = threading.Condition()
        self.taken: list[tuple[bytes, threading.Thread]] = []
        self.ends: list[HeteeError] = []
        self.taking: Callable[[], None] = lambda: None
        self._ours = ours
        self.reception = Reception(Bytes(ours), self._take, self.ends.append)
        self.reception.start()

    def _take(self, frame: Any) -> None:
        self.taking()
        with self.changed:
            self.taken.append((frame, threading.current_thread()))
            self.changed.notify_all()

    def has(self, n_frames: int) -> Callable[[], bool]:
        return lambda: len(self.taken) >= n_frames

    def in_background(self, n_frames: int) -> threading.Thread:
        """Send a frame that nobody waits for, so many having come with it; the thread that took it."""
        self.peer.send(b"b")
        with self.changed:
            assert self.changed.wait_for(self.has(n_frames), 10)
        return self.taken[-1][1]

    def close(self) -> None:
        self._ours.shutdown(socket.SHUT_RDWR)
        self.reception.close()
        self.peer.close()
        self._ours.close()


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client()
    yield made
    made.close()


def send_soon(client: Client, data: bytes) -> threading.Timer:
    timer = threading.Timer(0.1, client.peer.send, [data])
    timer.start()
    return timer


def test_who_waits_receives_and_the_background_before_and_after(client: Client) -> None:
    """A frame is taken by the thread that waits for it, and by the one in the background when nobody does."""
    background = client.in_background(1)
    assert background is not threading.current_thread()
    for round_ in range(3):
        timer = send_soon(client, b"w")
        client.reception.until(client.has(2 * round_ + 2), 10)
        assert client.taken[-1] == (b"w", threading.current_thread())
        timer.join()
        assert client.in_background(2 * round_ + 3) is background
    assert not client.ends


def test_waiting_ends_in_time(client: Client) -> None:
    """Without an answer the wait is over when its time is, and frames are received as before."""
    client.reception.until(lambda: False, 0.05)
    assert client.in_background(1) is not threading.current_thread()


def test_a_second_one_that_waits_leaves_it_to_the_first(client: Client) -> None:
    """One thread receives for all; the others return at once."""
    waits = threading.Event()
    first_done = client.has(1)

    def done() -> bool:
        waits.set()
        return first_done()

    first = threading.Thread(target=client.reception.until, args=(done, 10))
    first.start()
    assert waits.wait(10)
    client.reception.until(lambda: False, 10)  # would take ten seconds
    client.peer.send(b"w")
    first.join(10)
    assert client.taken == [(b"w", first)]


def test_the_end_of_the_connection_ends_a_wait(client: Client) -> None:
    """It is told once, by whoever notices, and nobody waits any more."""
    timer = threading.Timer(0.1, client.peer.shutdown, [socket.SHUT_RDWR])
    timer.start()
    client.reception.until(lambda: False, 10)
    timer.join()
    assert [end.code for end in client.ends] == [Refusal.HOST_LOST]
    client.reception.until(lambda: False, 10)


def test_an_interruption_between_frames_does_no_harm(client: Client) -> None:
    """Ctrl-C while an answer is waited for leaves the session as it was."""

    def interrupted() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.reception.until(interrupted, 10)
    client.in_background(1)
    assert not client.ends


def test_an_interruption_within_a_frame_ends_the_connection(client: Client) -> None:
    """Nobody knows then how much of the frame was read: that is said, and nothing else is taken for a frame."""
    background = client.in_background(1)

    def interrupt() -> None:
        raise KeyboardInterrupt

    client.taking = interrupt
    timer = send_soon(client, b"wx")
    with pytest.raises(KeyboardInterrupt):
        client.reception.until(client.has(2), 10)
    timer.join()
    assert [end.code for end in client.ends] == [Refusal.HOST_LOST]
    background.join(10)
    assert len(client.taken) == 1


def test_a_frame_may_close(client: Client) -> None:
    """Whoever is told of an answer may close in the same thread, which then waits for nobody."""
    client.taking = client.reception.close
    timer = send_soon(client, b"w")
    client.reception.until(client.has(1), 10)
    timer.join()
    assert client.in_background(2)


def test_an_answer_is_received_by_who_waits_for_it(client: Client) -> None:
    """Without a time limit and with one; what is there already is handed out at once, what does not come is told."""
    for timeout_s in (None, 10):
        answer = client.reception.answer()
        client.taking = lambda answer=answer: answer.set_result(threading.current_thread())  # type: ignore[misc]
        timer = send_soon(client, b"w")
        assert answer.result(timeout_s) is threading.current_thread()
        assert answer.result(0) is threading.current_thread()
        timer.join()
    with pytest.raises(TimeoutError):
        client.reception.answer().result(0.05)


def test_many_waits_in_a_row(client: Client) -> None:
    """Who waits a thousand times without a frame between does not block on having asked."""
    for _ in range(1000):
        client.reception.until(lambda: True, 10)
    client.in_background(1)
