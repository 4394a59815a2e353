"""What holds for any bytes and any sequence of frames, messages and chunks."""

from __future__ import annotations

import contextlib
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hetee_simple_reader import SimpleFrameReader
from sectum.hetee.data_plane.chunk_sizes import usual_chunk_bytes
from sectum.hetee.data_plane.messages import SCHEMAS, Tensor, read
from sectum.hetee.data_plane.streams import ChunkReassembly, Ledger
from sectum.hetee.data_plane.tensors import layout
from sectum.hetee.errors import FrameRefused, HeteeError, MessageRefused, Refusal, StreamRefused
from sectum.hetee.wire.frames import FrameReader, plain_frame
from sectum.hetee.wire.header import HEADER_BYTES, MAGIC, Header, chunks_needed, parse
from sectum.hetee.wire.kinds import CHUNK_BYTES, STREAM_BYTES, Kind
from sectum.hetee.wire.messages import encode

pytestmark = pytest.mark.slow

PLAIN = sorted(kind for kind in Kind if not kind.sealed and kind not in (Kind.HELLO, Kind.ATTEST, Kind.PROOF))
KINDS_WITH_MESSAGES = sorted(SCHEMAS)


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES) | st.binary(max_size=56).map((MAGIC + b"\1").__add__))
def test_any_header_is_read_exactly_or_refused(data: bytes) -> None:
    """Any 64 bytes are refused, or parse to a header that packs to the same bytes."""
    with contextlib.suppress(FrameRefused):
        assert parse(data).pack() == data


@given(st.integers(1, STREAM_BYTES), st.booleans())
def test_usual_chunks_are_allowed(total: int, alone: bool) -> None:
    """For every size of a stream, usual chunks are what a receiver takes; what is alone and large has four or more."""
    chunk_bytes = usual_chunk_bytes(total, alone=alone)
    chunks = chunks_needed(total, chunk_bytes)
    opening = Header(Kind.BATCH, 16, session=b"s" * 16, stream=1, chunks=chunks, total=total)
    assert parse(opening.pack()) == opening
    assert chunk_bytes <= CHUNK_BYTES
    assert chunks >= (min(4, chunks_needed(total, 128 << 10)) if alone else 1)


@given(
    st.sampled_from(Kind),
    st.integers(0, (1 << 32) - 1),
    *(st.integers(0, (1 << 64) - 1) | st.integers(0, 3) for _ in range(2)),
    *(st.integers(0, (1 << 32) - 1) | st.integers(0, 3) for _ in range(3)),
    st.integers(0, (1 << 64) - 1) | st.integers(0, 1 << 24),
)
def test_headers_that_can_be_written_are_read_back_or_refused(
    kind: Kind, length: int, sequence: int, stream: int, epoch: int, chunk: int, chunks: int, total: int
) -> None:
    """Parsing undoes packing for every header that the rules allow."""
    header = Header(kind, length, epoch, b"s" * 16, sequence, stream, chunk, chunks, total)
    with contextlib.suppress(FrameRefused):
        assert parse(header.pack()) == header


def _outcome(read_all: Any) -> tuple[list[tuple[Header, bytes]], Refusal | None]:
    got: list[tuple[Header, bytes]] = []
    try:
        for frame in read_all():
            got.append((frame.header, bytes(frame.payload)))
    except FrameRefused as error:
        return got, error.code
    return got, None


@given(
    st.lists(st.tuples(st.sampled_from(PLAIN), st.integers(0, 40_000)), max_size=5),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), max_size=3),
    st.integers(0, 1 << 20),
    st.integers(1, 100_000),
)
def test_reading_ahead_differs_in_nothing_but_its_calls(
    frames: list[tuple[Kind, int]], flips: list[tuple[int, int]], length: int, piece: int
) -> None:
    """Both readers get the same frames and the same refusal from any bytes, changed and cut off anywhere."""
    stream = bytearray(b"".join(plain_frame(kind, bytes(n_bytes)) for kind, n_bytes in frames))
    for at, bits in flips:
        if stream:
            stream[at % len(stream)] ^= bits
    data = memoryview(bytes(stream[: length % (len(stream) + 1)]))

    def plainly() -> Any:
        reader = SimpleFrameReader(frozenset(PLAIN))
        yield from reader.feed(data)
        reader.end()

    def ahead() -> Any:
        left = data

        def receive(memory: memoryview, _whole: bool) -> int:
            nonlocal left
            n_bytes = min(len(memory), len(left), piece)
            memory[:n_bytes], left = left[:n_bytes], left[n_bytes:]
            return n_bytes

        yield from iter(FrameReader(frozenset(PLAIN), receive).next, None)

    assert _outcome(ahead) == _outcome(plainly)


@given(st.lists(st.tuples(st.sampled_from(PLAIN), st.binary(max_size=300)), max_size=8), st.data())
def test_frames_survive_any_cutting(frames: list[tuple[Kind, bytes]], data: st.DataObject) -> None:
    """However a byte stream is cut into pieces, the same frames come out."""
    stream = b"".join(plain_frame(kind, payload) for kind, payload in frames)
    reader, got, at = SimpleFrameReader(frozenset(Kind)), [], 0
    while at < len(stream):
        n_bytes = data.draw(st.integers(1, len(stream) - at))
        got += [(frame.header.kind, bytes(frame.payload)) for frame in reader.feed(stream[at : at + n_bytes])]
        at += n_bytes
    assert got == frames
    assert reader.idle


@given(st.binary(max_size=2000))
def test_any_bytes_are_frames_or_refused(data: bytes) -> None:
    """A reader ends in frames, in waiting, or in a refusal; it takes no more memory than a frame may have."""
    reader = SimpleFrameReader(frozenset(Kind))
    with contextlib.suppress(FrameRefused):
        list(reader.feed(data))
        assert len(reader.writable()) <= (1 << 20) + 16


@given(st.sampled_from(KINDS_WITH_MESSAGES), st.binary(max_size=300))
def test_any_bytes_are_a_message_or_malformed(kind: Kind, payload: bytes) -> None:
    """What is accepted is exactly what would be written for it."""
    with contextlib.suppress(MessageRefused):
        assert encode(read(kind, payload)) == payload


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text(max_size=20)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@given(st.sampled_from(KINDS_WITH_MESSAGES), st.data())
def test_messages_with_other_values_are_malformed_or_exact(kind: Kind, data: st.DataObject) -> None:
    """Maps with the right names and any values are refused, or written back as the same bytes."""
    fields = {name: data.draw(VALUES) for name in SCHEMAS[kind].__struct_fields__ if data.draw(st.booleans())}
    payload = msgspec.msgpack.encode(fields)
    with contextlib.suppress(MessageRefused):
        assert encode(read(kind, payload)) == payload


TENSORS = st.lists(
    st.builds(
        Tensor,
        name=st.text(max_size=3),
        dtype=st.sampled_from(["uint8", "float32", "string", "complex128"]),
        shape=st.lists(st.integers(0, 70), max_size=4).map(tuple),
        encoding=st.sampled_from(["raw", "raw", "jpeg", "utf8"]),
        sizes=st.lists(st.integers(0, 100), max_size=4).map(tuple),
    ),
    max_size=6,
).map(tuple)


@given(TENSORS)
def test_tensors_never_overlap(tensors: tuple[Tensor, ...]) -> None:
    """Every tensor begins aligned, after the one before, and the last one ends the stream."""
    with contextlib.suppress(MessageRefused):
        places, at = layout(tensors), 0
        for place in places:
            assert place.begin % 64 == 0
            assert at <= place.begin < at + 64
            assert place.end >= place.begin
            assert all(place.begin <= end <= place.end for end in place.ends)
            at = place.end
        assert layout(tensors, total=at) == places


@given(st.integers(1, 40_000_000), st.integers(4096, 1 << 20))
def test_chunks_cover_a_stream_exactly(total: int, chunk_bytes: int) -> None:
    """Chunks of any allowed size go to places that follow each other and fill the stream to its end."""
    chunks = -(-total // chunk_bytes)
    assembly, at = ChunkReassembly(), 0
    assembly.begin(Header(Kind.BATCH, 50, session=b"s" * 16, stream=1, chunks=chunks, total=total), b"opening")
    for index in range(chunks):
        n_bytes = min(chunk_bytes, total - at)
        raw = Header(Kind.CHUNK, n_bytes + 16, 0, b"s" * 16, 0, 1, index, chunks, total).pack()
        header = parse(raw)
        assert assembly.place(header, n_bytes) == at
        at += n_bytes
        assert assembly.take(header, n_bytes) == (index == chunks - 1)
    assert at == total
    assert assembly.complete


class Streams(RuleBasedStateMachine):
    """A worker that may do anything, and a client that believes its ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(1000, 3)
        self.opened: dict[int, Kind] = {}
        self.answers: dict[int, list[Kind]] = {}
        self.owed = 0

    @rule(stream=st.integers(1, 30), kind=st.sampled_from([Kind.BATCH, Kind.CODE]), total=st.integers(0, 600))
    def open(self, stream: int, kind: Kind, total: int) -> None:
        header = Header(kind, 50, session=b"s" * 16, stream=stream, chunks=bool(total), total=total)
        with contextlib.suppress(StreamRefused):
            self.ledger.open(header)
            assert stream not in self.opened
            self.opened[stream] = kind
            self.owed += total if kind is Kind.BATCH else 0

    @rule(stream=st.integers(1, 30), answer=st.sampled_from([Kind.LOADED, Kind.RESULT, Kind.RECEIPT, Kind.REFUSED]))
    def answer(self, stream: int, answer: Kind) -> None:
        with contextlib.suppress(StreamRefused):
            self.ledger.answer(stream, answer)
            self.answers.setdefault(stream, []).append(answer)

    @precondition(lambda self: self.owed)
    @rule(n_bytes=st.integers(0, 1200))
    def release(self, n_bytes: int) -> None:
        if n_bytes <= self.owed:
            self.ledger.release(n_bytes)
            self.owed -= n_bytes
        else:
            with pytest.raises(StreamRefused) as caught:
                self.ledger.release(n_bytes)
            assert caught.value.code is Refusal.CREDIT_EXCEEDED

    @rule(stream=st.integers(1, 30))
    def cancel(self, stream: int) -> None:
        with contextlib.suppress(StreamRefused):
            waits = self.ledger.cancel(stream)
            assert waits == (stream in self.opened and stream not in self.answers)

    @invariant()
    def each_stream_is_answered_at_most_once(self) -> None:
        for stream, answers in self.answers.items():
            wanted = (
                ["REFUSED", "LOADED"] if self.opened[stream] is Kind.CODE else ["REFUSED", "RESULT", "RESULT RECEIPT"]
            )
            assert " ".join(answer.name for answer in answers) in wanted

    @invariant()
    def limits_hold(self) -> None:
        assert self.ledger.credit_bytes == 1000 - self.owed >= 0
        assert len(self.ledger.open_streams) <= 3


TestStreams = Streams.TestCase


@given(st.lists(st.binary(max_size=100), max_size=10))
def test_refusals_never_carry_other_exceptions(input_tensors: list[bytes]) -> None:
    """Only refusals come out of a reader, whatever goes in and whatever came before."""
    reader = SimpleFrameReader(frozenset(Kind))
    for piece in input_tensors:
        with contextlib.suppress(HeteeError):
            list(reader.feed(piece))
