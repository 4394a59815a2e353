"""Reading frames from a byte stream."""

from __future__ import annotations

import pytest

from sectum.hetee.errors import FrameRefused, Refusal
from sectum.hetee.wire.frames import FrameReader, plain_frame
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.read_ahead import READ_AHEAD_BYTES

ERRORS = frozenset({Kind.ERROR, Kind.STATE})


def frame(payload: bytes, kind: Kind = Kind.ERROR) -> bytes:
    return plain_frame(kind, payload)


def test_sealed_types_cannot_be_sent_plain() -> None:
    """The function that writes plain frames does not write one of a sealed type."""
    with pytest.raises(ValueError, match="sealed"):
        plain_frame(Kind.BATCH, b"")


class Socket:
    """Gives bytes in pieces of the lengths that a kernel might."""

    def __init__(self, data: bytes, piece: int) -> None:
        self.data, self.piece, self.calls = memoryview(data), piece, 0

    def receive(self, memory: memoryview, _whole: bool) -> int:
        self.calls += 1
        n_bytes = min(len(memory), len(self.data), self.piece)
        memory[:n_bytes] = self.data[:n_bytes]
        self.data = self.data[n_bytes:]
        return n_bytes


@pytest.mark.parametrize("piece", [1, 63, 64, 1000, 40_000, 1 << 20])
def test_reading_ahead_gives_the_same_frames(piece: int) -> None:
    """However the bytes are cut, frames of all sizes come whole, in their order, and then the end."""
    sizes = [0, 5, READ_AHEAD_BYTES - 64, READ_AHEAD_BYTES - 63, 3, 60_000, 1, 1]
    payloads = [bytes([index]) * size for index, size in enumerate(sizes)]
    source = Socket(b"".join(map(frame, payloads)), piece)
    reader = FrameReader(ERRORS, source.receive)
    for payload in payloads:
        read = reader.next()
        assert read is not None
        assert bytes(read.payload) == payload
    assert reader.next() is None


def test_small_frames_come_with_one_call() -> None:
    """Frames that a peer sent together are received with one call."""
    source = Socket(frame(b"a") + frame(b"b") + frame(b"c"), 1 << 20)
    reader = FrameReader(ERRORS, source.receive)
    assert [bytes(read.payload) for read in (reader.next(), reader.next(), reader.next()) if read] == [b"a", b"b", b"c"]
    assert source.calls == 1


@pytest.mark.parametrize("size", [3, 50_000])
@pytest.mark.parametrize("cut", [1, 63, 64, 66])
def test_an_end_inside_a_frame_is_told(cut: int, size: int) -> None:
    """A stream that ends inside a frame is truncated, be the frame small or large."""
    reader = FrameReader(ERRORS, Socket(frame(b"abc") + frame(bytes(size))[:cut], 1 << 20).receive)
    assert reader.next() is not None
    with pytest.raises(FrameRefused) as caught:
        reader.next()
    assert caught.value.code is Refusal.TRUNCATED


def test_unexpected_types_are_refused() -> None:
    """A frame that the peer may not send is refused at its header, before its payload has come."""
    reader = FrameReader(frozenset({Kind.STATE}), Socket(frame(bytes(50_000))[:64], 64).receive)
    with pytest.raises(FrameRefused) as caught:
        reader.next()
    assert caught.value.code is Refusal.UNEXPECTED


def test_a_refused_stream_stays_refused() -> None:
    """After a refusal nothing more is read from that connection."""
    reader = FrameReader(ERRORS, Socket(b"GET / HTTP/1.1\r\n" * 4 + frame(b""), 64).receive)
    for _ in range(3):
        with pytest.raises(FrameRefused):
            reader.next()


@pytest.mark.parametrize("piece", [1, 1000, 40_000])
def test_reading_goes_on_where_it_was_interrupted(piece: int) -> None:
    """On a socket that does not block, frames of all sizes come whole, wherever no more bytes were there."""
    payloads = [bytes([index]) * size for index, size in enumerate([0, 5, 60_000, READ_AHEAD_BYTES, 1, 50_000])]
    source = Socket(b"".join(map(frame, payloads)), piece)
    waited = 0

    def receive(memory: memoryview, whole: bool) -> int:
        nonlocal waited
        waited += 1
        if waited % 2:
            raise BlockingIOError
        return source.receive(memory, whole)

    reader, got, interrupted = FrameReader(ERRORS, receive), [], 0
    while len(got) < len(payloads):
        try:
            read = reader.next()
        except BlockingIOError:
            interrupted += 1
            continue
        assert read is not None
        got.append(bytes(read.payload))
    assert got == payloads
    assert interrupted > 5


def test_memory_is_taken_for_frames_that_may_come_only() -> None:
    """A frame that the peer may not send takes no memory, however long it says it is."""
    header = Header(Kind.CHUNK, (1 << 20) + 16, session=b"s" * 16, stream=1, chunks=1, total=1 << 20).pack()
    reader = FrameReader(ERRORS, Socket(header, 64).receive)
    with pytest.raises(FrameRefused):
        reader.next()
    assert len(reader._large) == 0
