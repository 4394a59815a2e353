"""Reading frames from a byte stream."""

from __future__ import annotations

import pytest

from sectum.hetee.errors import FrameRefused, Refusal
from sectum.hetee.wire.frames import BufferedFrameReader, FrameReader, plain_frame
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import Kind
from sectum.hetee.wire.read_ahead import READ_AHEAD_BYTES

ERRORS = frozenset({Kind.ERROR, Kind.STATE})


def frame(payload: bytes, kind: Kind = Kind.ERROR) -> bytes:
    return plain_frame(kind, payload)


@pytest.mark.parametrize("step", [1, 7, 63, 64, 65, 4096])
def test_frames_do_not_depend_on_how_bytes_arrive(step: int) -> None:
    """The same bytes in any pieces give the same frames."""
    data = frame(b"") + frame(b"a" * 500) + frame(b"b", Kind.STATE)
    reader, got = FrameReader(ERRORS), []
    for at in range(0, len(data), step):
        got += [(f.header.kind, bytes(f.payload)) for f in reader.feed(data[at : at + step])]
    assert got == [(Kind.ERROR, b""), (Kind.ERROR, b"a" * 500), (Kind.STATE, b"b")]
    assert reader.idle
    reader.end()


def test_bytes_are_received_where_they_stay() -> None:
    """A reader gives the place for the next bytes, and the payload is that place: nothing is copied."""
    reader = FrameReader(ERRORS)
    data = frame(b"payload")
    head = reader.writable()
    assert len(head) == 64
    head[:] = data[:64]
    assert reader.advance(64) is None
    body = reader.writable()
    assert len(body) == 7
    body[:] = data[64:]
    got = reader.advance(7)
    assert got is not None
    body[0] = ord("P")
    assert bytes(got.payload) == b"Payload"


def test_a_payload_stays_until_the_next() -> None:
    """Memory is used again by the next frame, also by a smaller one; a larger one gets memory of its own."""
    reader = FrameReader(ERRORS)
    (first,) = (got.payload for got in reader.feed(frame(b"one")))
    assert bytes(first) == b"one"
    list(reader.feed(frame(b"xy")))
    assert bytes(first) == b"xye"
    list(reader.feed(frame(b"larger")))
    assert bytes(first) == b"xye"


def test_a_reader_grows_to_the_largest_frame_only() -> None:
    """Memory is taken for a payload when its header was found valid, and not before."""
    reader = FrameReader(frozenset(Kind))
    assert len(reader.writable()) == 64
    list(reader.feed(Header(Kind.CHUNK, 1000, session=b"s" * 16, stream=1, chunks=1, total=984).pack()))
    assert len(reader.writable()) == 1000


def test_unexpected_types_are_refused() -> None:
    """A frame that the peer may not send is refused at its header, before its payload is read."""
    reader = FrameReader(frozenset({Kind.STATE}))
    with pytest.raises(FrameRefused) as caught:
        list(reader.feed(frame(b"x" * 1000)[:64]))
    assert caught.value.code is Refusal.UNEXPECTED


def test_a_refused_stream_stays_refused() -> None:
    """After a refusal nothing more is read from that connection."""
    reader = FrameReader(ERRORS)
    with pytest.raises(FrameRefused):
        list(reader.feed(b"GET / HTTP/1.1\r\n" * 4))
    with pytest.raises(FrameRefused):
        list(reader.feed(frame(b"")))


@pytest.mark.parametrize("cut", [1, 63, 64, 66])
def test_an_end_inside_a_frame_is_told(cut: int) -> None:
    """A connection that ends inside a frame is truncated, one that ends between frames is not."""
    reader = FrameReader(ERRORS)
    list(reader.feed(frame(b"abc") + frame(b"abc")[:cut]))
    with pytest.raises(FrameRefused) as caught:
        reader.end()
    assert caught.value.code is Refusal.TRUNCATED


def test_sealed_types_cannot_be_sent_plain() -> None:
    """The function that writes plain frames does not write one of a sealed type."""
    with pytest.raises(ValueError, match="sealed"):
        plain_frame(Kind.BATCH, b"")


def test_more_bytes_than_space_is_the_callers_fault() -> None:
    """A caller that claims more bytes than it had space for is told."""
    with pytest.raises(ValueError, match="65"):
        FrameReader(ERRORS).advance(65)


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
    reader = BufferedFrameReader(ERRORS, source.receive)
    for payload in payloads:
        read = reader.next()
        assert read is not None
        assert bytes(read.payload) == payload
    assert reader.next() is None


def test_small_frames_come_with_one_call() -> None:
    """Frames that a peer sent together are received with one call."""
    source = Socket(frame(b"a") + frame(b"b") + frame(b"c"), 1 << 20)
    reader = BufferedFrameReader(ERRORS, source.receive)
    assert [bytes(read.payload) for read in (reader.next(), reader.next(), reader.next()) if read] == [b"a", b"b", b"c"]
    assert source.calls == 1


@pytest.mark.parametrize("size", [3, 50_000])
@pytest.mark.parametrize("cut", [1, 63, 64, 66])
def test_an_end_inside_a_frame_is_told_when_reading_ahead(cut: int, size: int) -> None:
    """A stream that ends inside a frame is truncated, be the frame small or large."""
    reader = BufferedFrameReader(ERRORS, Socket(frame(b"abc") + frame(bytes(size))[:cut], 1 << 20).receive)
    assert reader.next() is not None
    with pytest.raises(FrameRefused) as caught:
        reader.next()
    assert caught.value.code is Refusal.TRUNCATED


def test_unexpected_types_are_refused_when_reading_ahead() -> None:
    """A frame that the peer may not send is refused at its header, before its payload has come."""
    reader = BufferedFrameReader(frozenset({Kind.STATE}), Socket(frame(bytes(50_000))[:64], 64).receive)
    with pytest.raises(FrameRefused) as caught:
        reader.next()
    assert caught.value.code is Refusal.UNEXPECTED
