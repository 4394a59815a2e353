"""A link delivers what was sent, where it belongs, or nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest

from sectum.enclave.streaming.sealed_link import (
    DIGEST_BYTES,
    KEY_BYTES,
    MOST_BYTES,
    PREFIX,
    LinkEnd,
    LinkReceiver,
    LinkSender,
)
from sectum.enclave.streaming.sealed_weights import BLOCK_BYTES, TAG_BYTES
from sectum.enclave.streaming.tampering import LinkEndedError, LinkTamperedError

KEY, PLAN = bytes(range(KEY_BYTES)), bytes(DIGEST_BYTES)
VALUES = [
    np.arange(70_000, dtype=np.float32).reshape(7, 100, 100),  # more than a block
    np.array(3, np.int64),
    np.empty((0, 4), np.float16),
    np.array([True, False]),
]


class Unchecked:
    """A cipher that encrypts and checks nothing: what attacks would do to a link without seals."""

    def encrypt_into(self, nonce: bytes, data: Any, associated_data: bytes, buf: Any) -> int:
        """Copy."""
        del nonce, associated_data
        buf[: len(data)] = data
        return len(data)

    def decrypt_into(self, nonce: bytes, data: Any, associated_data: bytes, buf: Any) -> int:
        """Copy."""
        del nonce, associated_data
        buf[:] = data[: len(buf)]
        return len(buf)


class Link:
    """Both ends of a link, and a host between them that holds each message."""

    def __init__(self, cipher: Any = None, **other: Any) -> None:
        self._ours, theirs = socket.socketpair()
        self._feed, inside = socket.socketpair()
        for one in (self._ours, self._feed):
            one.settimeout(10)
        self._threads: list[threading.Thread] = []
        ends = {"key": KEY, "plan": PLAN, "number": 0}
        self.sender = LinkSender(LinkEnd(theirs.detach(), **ends), cipher)
        self.receiver = LinkReceiver(LinkEnd(inside.detach(), **ends | other), cipher)

    def sent(self, values: list[np.ndarray] = VALUES) -> bytes:
        """Send values; the message, which the host has now."""
        self.sender.seal([(one.reshape(-1).view(np.uint8), one.dtype, one.shape) for one in values])
        self._meanwhile(self.sender.send)  # a socket holds less than a message
        content = self._exactly(PREFIX.size)
        return self._exactly(PREFIX.unpack(content)[0])

    def _meanwhile(self, work: Callable[[], None]) -> None:
        def until_closed() -> None:
            with suppress(OSError):
                work()

        self._threads.append(threading.Thread(target=until_closed))
        self._threads[-1].start()

    def _exactly(self, n_bytes: int) -> bytes:
        content = b""
        while len(content) < n_bytes:
            content += self._ours.recv(n_bytes - len(content))
        return content

    def forward(self, message: bytes, claimed: int | None = None) -> None:
        """Give the receiver a message."""
        content = PREFIX.pack(len(message) if claimed is None else claimed) + message
        self._meanwhile(lambda: self._feed.sendall(content))

    def end(self) -> None:
        """End the link, as seen by the receiver, after what was forwarded."""
        forwarding = self._threads[-1]

        def after() -> None:
            forwarding.join()
            self._feed.shutdown(socket.SHUT_WR)

        self._meanwhile(after)

    def opened(self, values: list[np.ndarray] = VALUES) -> list[np.ndarray]:
        """What the receiver gets."""
        self.receiver.receive()
        return self.receiver.open(len(values))

    def close(self) -> None:
        """Close all."""
        for one in (self._ours, self._feed, self.sender, self.receiver):
            one.close()
        for thread in self._threads:
            thread.join()


@contextmanager
def linked(cipher: Any = None, **other: Any) -> Iterator[Link]:
    link = Link(cipher, **other)
    try:
        yield link
    finally:
        link.close()


def equal(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    return all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(found, expected, strict=True)
    )


def test_values_arrive_as_they_were() -> None:
    """Types, shapes and bytes of all values arrive, message after message."""
    with linked() as link:
        for shift in range(3):
            values = [one + one.dtype.type(shift) if one.dtype.kind != "b" else ~one for one in VALUES]
            link.forward(link.sent(values))
            assert equal(link.opened(), values)


def test_a_message_without_values_is_one_all_the_same() -> None:
    """Where nothing crosses, the message is sealed and in its place like any other."""
    with linked() as link:
        message = link.sent([])
        link.forward(message)
        assert link.opened([]) == []
        link.forward(message)
        with pytest.raises(LinkTamperedError):
            link.opened([])


def flip(first: bytes, _second: bytes) -> list[bytes]:
    """Change one bit of a value."""
    place = 200_000
    return [first[:place] + bytes([first[place] ^ 1]) + first[place + 1 :]]


def swap_blocks(first: bytes, _second: bytes) -> list[bytes]:
    """Exchange the start of the first value's two blocks, as far as both go."""
    start = 4 + len(VALUES) * 66 + TAG_BYTES
    second = start + BLOCK_BYTES + TAG_BYTES
    a, b = first[start : start + 5000], first[second : second + 5000]
    return [first[:start] + b + first[start + 5000 : second] + a + first[second + 5000 :]]


def replay(first: bytes, _second: bytes) -> list[bytes]:
    """Deliver the first message twice, and the second never."""
    return [first, first]


def reorder(first: bytes, second: bytes) -> list[bytes]:
    """Deliver the second message before the first."""
    return [second, first]


def drop(_first: bytes, second: bytes) -> list[bytes]:
    """Deliver the second message only."""
    return [second]


ATTACKS = [flip, swap_blocks, replay, reorder, drop]


def delivered(link: Link, attack: Callable[[bytes, bytes], list[bytes]]) -> list[list[np.ndarray]]:
    """What arrives of two different messages under an attack."""
    first = link.sent()
    second = link.sent([VALUES[0] * 2, *VALUES[1:]])
    found = []
    for message in attack(first, second):
        link.forward(message)
        found.append([one.copy() for one in link.opened()])
    return found


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_changes_what_an_unchecked_link_delivers(attack: Callable[[bytes, bytes], list[bytes]]) -> None:
    """The attacks are real: without seals, each delivers other values than were sent, and nobody notices."""
    with linked(Unchecked()) as link:
        found = delivered(link, attack)
        expected = [VALUES, [VALUES[0] * 2, *VALUES[1:]]]
        assert not all(equal(got, sent) for got, sent in zip(found, expected, strict=False))


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_ends_a_sealed_link(attack: Callable[[bytes, bytes], list[bytes]]) -> None:
    """A message that was changed, repeated, reordered or left out is refused."""
    with linked() as link, pytest.raises(LinkTamperedError, match="link 0 between enclaves"):
        delivered(link, attack)


@pytest.mark.parametrize("other", [{"key": bytes(KEY_BYTES)}, {"plan": bytes([1] * DIGEST_BYTES)}, {"number": 1}])
def test_a_message_of_another_link_is_refused(other: dict[str, Any]) -> None:
    """A message opens only with the key, the plan and the link that it was sealed for."""
    with linked(**other) as link:
        link.forward(link.sent())
        with pytest.raises(LinkTamperedError):
            link.opened()


def test_a_cut_message_is_refused() -> None:
    """Bytes that are missing at the end, or in the middle, are noticed, whatever size the host claims."""
    for size, claimed in ((-1, None), (-1, 0), (-5000, None), (-5000, 0), (40, None), (TAG_BYTES, None)):
        with linked() as link:
            message = link.sent()
            link.forward(message[:size], None if claimed is None else len(message))
            link.end()
            with pytest.raises(LinkTamperedError):
                link.opened()


@pytest.mark.parametrize("claimed", [0, TAG_BYTES - 1, MOST_BYTES + 1, (1 << 64) - 1])
def test_an_impossible_size_is_refused_before_memory_is_taken(claimed: int) -> None:
    """A size that no message has ends the link."""
    with linked() as link:
        link.forward(b"", claimed)
        with pytest.raises(LinkTamperedError):
            link.opened()


def test_a_longer_message_is_refused() -> None:
    """What is added at the end changes the size, which every block was sealed with."""
    with linked() as link:
        link.forward(link.sent() + bytes(100))
        with pytest.raises(LinkTamperedError):
            link.opened()


def test_a_link_that_ends_between_messages_is_no_attack() -> None:
    """Where the host or the other enclave ends, the receiver learns that, and not of tampering."""
    with linked() as link:
        link.forward(link.sent())
        link.end()
        assert equal(link.opened(), VALUES)
        with pytest.raises(LinkEndedError):
            link.opened()


def test_no_two_messages_look_alike() -> None:
    """The same values are sealed to other bytes each time, and a value is not found in the message."""
    with linked() as link:
        first, second = link.sent(), link.sent()
        assert len(first) == len(second)
        assert first != second
        assert VALUES[0].tobytes()[:64] not in first


def test_what_a_link_cannot_carry_is_refused() -> None:
    """Values of more than eight dimensions, and of types that numpy has not, are refused before they are sealed."""
    with linked() as link:
        for value in (np.zeros((1,) * 9, np.float32), np.zeros(1, np.complex64)):
            with pytest.raises(ValueError, match="fewer enclaves"):
                link.sent([value])


def test_a_key_of_another_size_is_refused() -> None:
    """A link needs a key of 256 bits."""
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ValueError, match="a link needs a key"):
        LinkSender(LinkEnd(theirs.fileno(), KEY[:16], PLAN, 0))
