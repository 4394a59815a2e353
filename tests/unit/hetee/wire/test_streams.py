"""Streams: chunks in order, one answer each, credit kept."""

from __future__ import annotations

import hashlib

import pytest

from sectum.hetee.data_plane.streams import ChunkReassembly, Ledger
from sectum.hetee.errors import Refusal, StreamRefused
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import Kind


def opening(stream: int = 1, *, kind: Kind = Kind.BATCH, chunks: int = 3, total: int = 250) -> Header:
    return Header(kind, 50, stream=stream, chunks=chunks, total=total)


def chunk(at: int, *, stream: int = 1, chunks: int = 3, total: int = 250) -> Header:
    return Header(Kind.CHUNK, 116, stream=stream, chunk=at, chunks=chunks, total=total)


def refused(code: Refusal) -> pytest.RaisesExc[StreamRefused]:
    return pytest.RaisesExc(StreamRefused, check=lambda error: error.code is code)


def test_chunks_fill_their_stream() -> None:
    """Chunks of one size go one after the other; the last may be smaller and completes the stream."""
    assembly = ChunkReassembly()
    assert assembly.complete
    assembly.begin(opening(), b"descriptor")
    assert assembly.context == hashlib.sha256(b"descriptor").digest()
    for at, n_bytes in enumerate((100, 100, 50)):
        assert not assembly.complete
        assert assembly.place(chunk(at), n_bytes) == at * 100
        assert assembly.take(chunk(at), n_bytes) == (at == 2)
    assert assembly.complete
    assembly.end(1)


def test_a_stream_without_bytes_has_no_chunks() -> None:
    """An opening without chunks is complete at once."""
    assembly = ChunkReassembly()
    assembly.begin(opening(chunks=0, total=0), b"")
    assert assembly.complete
    assembly.end(1)


@pytest.mark.parametrize(
    "wrong", [chunk(0), chunk(2), chunk(1, stream=2), chunk(1, chunks=4), chunk(1, total=251)], ids=str
)
def test_other_chunks_than_the_next_are_refused(wrong: Header) -> None:
    """A chunk that is repeated, early, of another stream or of another announcement is refused."""
    assembly = ChunkReassembly()
    assembly.begin(opening(), b"")
    assembly.place(chunk(0), 100)
    assembly.take(chunk(0), 100)
    with refused(Refusal.CHUNK_ORDER):
        assembly.place(wrong, 100)


@pytest.mark.parametrize(("at", "n_bytes"), [(1, 99), (1, 101), (1, 150), (2, 49), (2, 51)])
def test_other_sizes_are_refused(at: int, n_bytes: int) -> None:
    """Chunks have the first one's size, the last one has what is left."""
    assembly = ChunkReassembly()
    assembly.begin(opening(), b"")
    for before in range(at):
        assembly.place(chunk(before), 100)
        assembly.take(chunk(before), 100)
    with refused(Refusal.CHUNK_SIZE):
        assembly.place(chunk(at), n_bytes)


def test_a_last_chunk_is_not_larger_than_the_others() -> None:
    """So a receiver knows from the first chunk where all lie."""
    assembly = ChunkReassembly()
    assembly.begin(opening(chunks=2, total=250), b"")
    assembly.place(chunk(0, chunks=2), 100)
    assembly.take(chunk(0, chunks=2), 100)
    with refused(Refusal.CHUNK_SIZE):
        assembly.place(chunk(1, chunks=2), 150)


def test_a_first_chunk_leaves_something_for_the_others() -> None:
    """The first of several chunks cannot have all bytes."""
    assembly = ChunkReassembly()
    assembly.begin(opening(), b"")
    with refused(Refusal.CHUNK_SIZE):
        assembly.place(chunk(0), 250)


def test_streams_do_not_interleave() -> None:
    """A second stream is opened, or a stream closed, only when the chunks before are complete."""
    assembly = ChunkReassembly()
    assembly.begin(opening(), b"")
    with refused(Refusal.INTERLEAVED):
        assembly.begin(opening(2), b"")
    with refused(Refusal.INTERLEAVED):
        assembly.end(1)


def test_chunks_without_a_stream_are_refused() -> None:
    """A chunk needs an opening, also after the last chunk."""
    with refused(Refusal.CHUNK_ORDER):
        ChunkReassembly().place(chunk(0), 100)


def test_a_closing_names_the_stream_that_was_received() -> None:
    """A receipt cannot close another stream than the one whose result came last."""
    assembly = ChunkReassembly()
    assembly.begin(opening(chunks=0, total=0), b"")
    with refused(Refusal.INTERLEAVED):
        assembly.end(2)


def test_a_batch_is_answered_once() -> None:
    """RESULT and RECEIPT close a batch; nothing answers it again."""
    ledger = Ledger(1000, 4)
    ledger.open(opening(5))
    assert ledger.open_streams == (5,)
    ledger.answer(5, Kind.RESULT)
    for again in (Kind.RESULT, Kind.REFUSED, Kind.LOADED):
        with refused(Refusal.UNKNOWN_STREAM):
            ledger.answer(5, again)
    ledger.answer(5, Kind.RECEIPT)
    assert ledger.open_streams == ()
    for again in (Kind.RESULT, Kind.RECEIPT, Kind.REFUSED):
        with refused(Refusal.UNKNOWN_STREAM):
            ledger.answer(5, again)


@pytest.mark.parametrize("answer", [Kind.LOADED, Kind.RESULT, Kind.RECEIPT, Kind.REFUSED])
def test_answers_to_streams_that_were_not_opened(answer: Kind) -> None:
    """An answer to a stream that is not open is refused."""
    with refused(Refusal.UNKNOWN_STREAM):
        Ledger(1000, 4).answer(1, answer)


def test_a_receipt_needs_a_result_first() -> None:
    """A batch cannot be closed by a receipt alone, nor a model by a result."""
    ledger = Ledger(1000, 4)
    ledger.open(opening(1))
    ledger.open(opening(2, kind=Kind.CODE))
    for stream, answer in ((1, Kind.RECEIPT), (1, Kind.LOADED), (2, Kind.RESULT), (2, Kind.RECEIPT)):
        with refused(Refusal.UNKNOWN_STREAM):
            ledger.answer(stream, answer)
    ledger.answer(2, Kind.LOADED)
    ledger.answer(1, Kind.REFUSED)


def test_stream_numbers_rise() -> None:
    """A number is used once, and lower ones are not used after it."""
    ledger = Ledger(1000, 4)
    assert ledger.next_stream == 1
    ledger.open(opening(3))
    assert ledger.next_stream == 4
    ledger.answer(3, Kind.REFUSED)
    for stream in (3, 2):
        with refused(Refusal.STREAM_REUSED):
            ledger.open(opening(stream))


def test_credit_is_taken_by_batches_and_given_back() -> None:
    """Batches take credit, models do not; more than was taken cannot come back."""
    ledger = Ledger(500, 4)
    ledger.open(opening(1))
    ledger.open(opening(2, kind=Kind.CODE, total=10_000))
    ledger.open(opening(3))
    assert ledger.credit_bytes == 0
    with refused(Refusal.CREDIT_EXCEEDED):
        ledger.open(opening(4, total=1))
    ledger.answer(1, Kind.REFUSED)
    assert ledger.credit_bytes == 0  # the worker gives it back when the buffer is free
    ledger.release(250)
    assert ledger.credit_bytes == 250
    with refused(Refusal.CREDIT_EXCEEDED):
        ledger.release(251)


def test_open_streams_are_limited() -> None:
    """No more than the worker allows, and one model at a time."""
    ledger = Ledger(1000, 2)
    ledger.open(opening(1, kind=Kind.CODE))
    with refused(Refusal.TOO_MANY_STREAMS):
        ledger.open(opening(2, kind=Kind.CODE))
    ledger.open(opening(3))
    with refused(Refusal.TOO_MANY_STREAMS):
        ledger.open(opening(4))


def test_cancelling_what_was_answered_is_no_fault() -> None:
    """CANCEL may cross with the answer; only CANCEL of a stream that never existed is refused."""
    ledger = Ledger(1000, 4)
    ledger.open(opening(1))
    assert ledger.cancel(1)
    ledger.answer(1, Kind.RESULT)
    assert not ledger.cancel(1)
    ledger.answer(1, Kind.RECEIPT)
    assert not ledger.cancel(1)
    with refused(Refusal.UNKNOWN_STREAM):
        ledger.cancel(2)
