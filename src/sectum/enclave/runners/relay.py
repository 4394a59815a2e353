"""The untrusted way between two enclaves: it reads sealed messages and forwards them, as late as a link would."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue

from sectum.enclave.streaming.sealed_link import MOST_BYTES, PREFIX

_UNDER_WAY = 8
"""Messages that a link holds at most: more wait in the enclave that sends them."""

Carry = Callable[[int, bytearray], Iterable[bytes | bytearray]]
"""What the host does with a message: number of the link and the message in, messages to forward out."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a link is.

    Attributes:
        bits_per_s: bandwidth.
        delay_ms: time that a message takes beside its transfer.
    """

    bits_per_s: float
    delay_ms: float

    def transfer_ms(self, n_bytes: float) -> float:
        """Milliseconds for which a message occupies the link."""
        return 8e3 * n_bytes / self.bits_per_s

    def message_ms(self, n_bytes: float) -> float:
        """Milliseconds from the start of sending a message until it has arrived."""
        return self.delay_ms + self.transfer_ms(n_bytes)


def as_it_is(_link: int, message: bytearray) -> Iterable[bytearray]:
    """Forward a message unchanged."""
    return (message,)


@dataclass(frozen=True, slots=True)
class _Message:
    """A message under way: when it was sent, and when it arrives, in nanoseconds of `time.perf_counter_ns`."""

    begin_ns: int
    due_ns: float
    content: bytes | bytearray


class Relay:
    """Forwards messages from one enclave to the next in threads of its own, until one of them ends.

    Args:
        number: of the link.
        source: where messages come from. The relay owns both sockets.
        sink: where they go.
        pace: a message arrives no sooner than over such a link.
        carry: what the host does with each message.
    """

    def __init__(
        self, number: int, source: socket.socket, sink: socket.socket, pace: Pace, carry: Carry = as_it_is
    ) -> None:
        self._number, self._source, self._sink, self._pace, self._carry = number, source, sink, pace, carry
        self._under_way: SimpleQueue[_Message | None] = SimpleQueue()
        self._room = threading.Semaphore(_UNDER_WAY)
        self.took_ns: list[int] = []
        for work in (self._take, self._give):
            threading.Thread(target=work, name=f"link {number}", daemon=True).start()

    def _take(self) -> None:
        """Read messages, and decide when each arrives: one after the other has the link to itself."""
        free_ns = 0.0
        with suppress(OSError):  # an end is gone, or the chain is closed
            while self._room.acquire() and (read := self._read()) is not None:
                begin, content = read
                for one in self._carry(self._number, content):
                    free_ns = max(free_ns, begin) + 1e6 * self._pace.transfer_ms(len(one))
                    self._under_way.put(_Message(begin, free_ns + 1e6 * self._pace.delay_ms, one))
        self._under_way.put(None)

    def _give(self) -> None:
        """Forward messages when they are due."""
        with suppress(OSError):
            while (message := self._under_way.get()) is not None:
                content = memoryview(message.content)
                self._sink.sendall(PREFIX.pack(len(content)))
                self._sink.sendall(content[:-1])
                while (left_ns := message.due_ns - time.perf_counter_ns()) > 0:
                    time.sleep(left_ns / 1e9)
                self._sink.sendall(content[-1:])  # nobody can use a message before it is complete
                self.took_ns.append(time.perf_counter_ns() - message.begin_ns)
                self._room.release()
        self.close()

    def _read(self) -> tuple[int, bytearray] | None:
        """A whole message and when it began; None where the link ends before it."""
        prefix = self._exactly(PREFIX.size)
        begin = time.perf_counter_ns()
        if prefix is None:
            return None
        (n_bytes,) = PREFIX.unpack(prefix)
        if n_bytes > MOST_BYTES:
            return None
        content = self._exactly(n_bytes)
        return None if content is None else (begin, content)

    def _exactly(self, n_bytes: int) -> bytearray | None:
        content = bytearray(n_bytes)
        view = memoryview(content)
        while view:
            got = self._source.recv_into(view)
            if not got:
                return None
            view = view[got:]
        return content

    def close(self) -> None:
        """End the link for both enclaves. May be called again."""
        self._room.release()
        for end in (self._source, self._sink):
            with suppress(OSError):  # it is closed, or the other end is gone
                end.shutdown(socket.SHUT_RDWR)
            end.close()
