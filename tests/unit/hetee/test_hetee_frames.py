"""Reading frames from a byte stream."""

from __future__ import annotations

import pytest

from sectum.hetee.errors import FrameRefused, Refusal
from sectum.hetee.wire.frames import FrameReader, plain_frame
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import Kind

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


def test_slots_keep_earlier_payloads() -> None:
    """With two slots a payload outlives the next frame, and is overwritten by the one after it."""
    reader = FrameReader(ERRORS, slots=2)
    views = [got.payload for got in reader.feed(frame(b"one") + frame(b"two"))]
    assert [bytes(view) for view in views] == [b"one", b"two"]
    list(reader.feed(frame(b"xyz")))
    assert [bytes(view) for view in views] == [b"xyz", b"two"]


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
