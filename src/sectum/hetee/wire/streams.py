"""Rules of streams: chunks in their order, every stream answered once, nothing beyond the credit."""

from __future__ import annotations

import hashlib

from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import Kind


class Assembly:
    """The chunks of one direction: which comes next, and where it goes."""

    def __init__(self) -> None:
        self._opening: Header | None = None
        self._context = b""
        self._next = self._at = self._chunk_bytes = self._stream = 0

    @property
    def complete(self) -> bool:
        """Whether no chunk is missing of what was opened."""
        return self._opening is None

    @property
    def context(self) -> bytes:
        """What the chunks' associated data ends in: SHA-256 of the opening."""
        return self._context

    def begin(self, header: Header, opening: bytes | bytearray | memoryview) -> None:
        """Take note of an opened CODE, BATCH or RESULT, whose payload is ``opening``.

        Raises:
            StreamRefused: ``INTERLEAVED``, chunks of the stream before are missing.
        """
        if self._opening is not None:
            raise refusal(
                Refusal.INTERLEAVED, f"stream {header.stream} opened with chunks of {self._opening.stream} missing"
            )
        self._context = hashlib.sha256(opening).digest()
        self._next = self._at = self._chunk_bytes = 0
        self._stream = header.stream
        self._opening = header if header.chunks else None

    def place(self, header: Header, n_bytes: int) -> int:
        """Give the offset in the stream's plaintext of a CHUNK that has ``n_bytes`` of plaintext.

        Called before the chunk is opened, so that it is opened into its place; `Assembly.take` follows.

        Raises:
            StreamRefused: it is not the next chunk, or has another size than it must have.
        """
        opening = self._opening
        if opening is None:
            raise refusal(Refusal.CHUNK_ORDER, f"a chunk of stream {header.stream}, which has none left")
        same = (header.stream, header.chunks, header.total) == (opening.stream, opening.chunks, opening.total)
        if not same or header.chunk != self._next:
            raise refusal(
                Refusal.CHUNK_ORDER,
                f"chunk {header.chunk} of stream {header.stream}, expected {self._next} of {opening.stream}",
            )
        last, left = header.chunk == opening.chunks - 1, opening.total - self._at
        if last:
            good = n_bytes == left and (header.chunk == 0 or n_bytes <= self._chunk_bytes)
        else:
            good = n_bytes < left and n_bytes == (self._chunk_bytes or n_bytes)
        if not good:
            raise refusal(
                Refusal.CHUNK_SIZE, f"chunk {header.chunk} of {opening.chunks} has {n_bytes} bytes, {left} are left"
            )
        return self._at

    def end(self, stream: int) -> None:
        """Check that the stream which was received last is this one, and whole: RECEIPT follows the last chunk.

        Raises:
            StreamRefused: ``INTERLEAVED``, it is not.
        """
        if self._opening is not None or stream != self._stream:
            raise refusal(Refusal.INTERLEAVED, f"stream {stream} is closed before its chunks are complete")

    def take(self, header: Header, n_bytes: int) -> bool:
        """Take note that the placed chunk was opened. True when it was the last."""
        self._chunk_bytes = self._chunk_bytes or n_bytes
        self._next, self._at = header.chunk + 1, self._at + n_bytes
        if self._opening is not None and self._next == self._opening.chunks:
            self._opening = None
        return self._opening is None


# What a stream has to wait for, for an answer of this type to be one.
_ANSWERS = {
    Kind.LOADED: (Kind.CODE,),
    Kind.RESULT: (Kind.BATCH,),
    Kind.RECEIPT: (Kind.RESULT,),
    Kind.REFUSED: (Kind.CODE, Kind.BATCH),
}


class Ledger:
    """Which streams are open, and what credit is left. Both sides keep one, and so find the same.

    Args:
        credit_bytes: what READY granted.
        open_streams: how many streams READY allows at a time.
    """

    def __init__(self, credit_bytes: int, open_streams: int) -> None:
        self._limit_bytes, self._limit_streams = credit_bytes, open_streams
        self._credit_bytes = credit_bytes
        self._open: dict[int, Kind] = {}
        self._highest = 0

    @property
    def credit_bytes(self) -> int:
        """How many bytes of batches may be opened now."""
        return self._credit_bytes

    @property
    def open_streams(self) -> tuple[int, ...]:
        """The streams that wait for an answer, oldest first."""
        return tuple(self._open)

    @property
    def next_stream(self) -> int:
        """The lowest number that a new stream may have."""
        return self._highest + 1

    def room(self, kind: Kind, total: int) -> bool:
        """Whether a CODE or BATCH of so many bytes may be opened now. Only batches take credit."""
        if len(self._open) >= self._limit_streams:
            return False
        return Kind.CODE not in self._open.values() if kind is Kind.CODE else total <= self._credit_bytes

    def open(self, header: Header) -> None:
        """Take note of CODE or BATCH.

        Raises:
            StreamRefused: the number was used, or too much is open.
        """
        kind, stream = header.kind, header.stream
        if stream <= self._highest:
            raise refusal(Refusal.STREAM_REUSED, f"stream {stream}, after {self._highest}")
        if len(self._open) >= self._limit_streams:
            raise refusal(Refusal.TOO_MANY_STREAMS, f"{len(self._open)} streams are open, the limit")
        if kind is Kind.CODE and Kind.CODE in self._open.values():
            raise refusal(Refusal.TOO_MANY_STREAMS, "a second model while one is being loaded")
        if kind is Kind.BATCH:
            if header.total > self._credit_bytes:
                raise refusal(
                    Refusal.CREDIT_EXCEEDED, f"a batch of {header.total} bytes, {self._credit_bytes} are granted now"
                )
            self._credit_bytes -= header.total
        self._open[stream] = kind
        self._highest = stream

    def answer(self, stream: int, answer: Kind) -> None:
        """Take note of LOADED, RESULT, RECEIPT or REFUSED; all but RESULT close the stream.

        Raises:
            StreamRefused: ``UNKNOWN_STREAM``, the stream is not open, or does not wait for this.
        """
        state = self._open.get(stream)
        if state is None or state not in _ANSWERS[answer]:
            raise refusal(Refusal.UNKNOWN_STREAM, f"{answer.name} for stream {stream}, which does not wait for it")
        if answer is Kind.RESULT:
            self._open[stream] = Kind.RESULT
        else:
            del self._open[stream]

    def cancel(self, stream: int) -> bool:
        """Take note of CANCEL. False when the stream was answered meanwhile, which is no fault of the client.

        Raises:
            StreamRefused: ``UNKNOWN_STREAM``, there never was such a stream.
        """
        if stream > self._highest:
            raise refusal(Refusal.UNKNOWN_STREAM, f"CANCEL for stream {stream}, which was never opened")
        return self._open.get(stream) in (Kind.CODE, Kind.BATCH)

    def release(self, credit_bytes: int) -> None:
        """Take note of CREDIT.

        Raises:
            StreamRefused: ``CREDIT_EXCEEDED``, more is given back than was taken.
        """
        if self._credit_bytes + credit_bytes > self._limit_bytes:
            raise refusal(Refusal.CREDIT_EXCEEDED, f"{credit_bytes} bytes given back, more than were taken")
        self._credit_bytes += credit_bytes
