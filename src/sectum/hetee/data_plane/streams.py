"""The rules of streams: chunks come in order, each stream is answered once, and no batch exceeds the credit."""

from __future__ import annotations

import hashlib

from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import Kind


class ChunkReassembly:
    """Follows the chunks of one direction: which comes next, and where it goes."""

    def __init__(self) -> None:
        self._opening: Header | None = None
        self._context = b""
        self._next = self._at = self._chunk_bytes = self._stream = 0

    @property
    def complete(self) -> bool:
        """Whether no chunk of the last opening is missing."""
        return self._opening is None

    @property
    def context(self) -> bytes:
        """The SHA-256 of the opening, which is part of the chunks' associated data."""
        return self._context

    def begin(self, header: Header, opening: bytes | bytearray | memoryview) -> None:
        """Register an opened CODE, BATCH or RESULT, whose payload is ``opening``.

        Raises:
            StreamRefused: ``INTERLEAVED``, chunks of the previous stream are missing.
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
        """The offset in the stream's plaintext of a CHUNK with ``n_bytes`` of plaintext.

        Call it before the chunk is opened, so that it is opened into place; then call `take`.

        Raises:
            StreamRefused: it is not the next chunk, or has a wrong size.
        """
        opening = self._opening
        if opening is None:
            raise refusal(Refusal.CHUNK_ORDER, f"a chunk of stream {header.stream}, of which no chunk is missing")
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
        """Check that the last received stream is this one and complete, because RECEIPT follows the last chunk.

        Raises:
            StreamRefused: ``INTERLEAVED``, it is another stream, or chunks are missing.
        """
        if self._opening is not None or stream != self._stream:
            raise refusal(Refusal.INTERLEAVED, f"stream {stream} is closed before its chunks are complete")

    def take(self, header: Header, n_bytes: int) -> bool:
        """Register that the placed chunk was opened; returns True if it was the last."""
        self._chunk_bytes = self._chunk_bytes or n_bytes
        self._next, self._at = header.chunk + 1, self._at + n_bytes
        if self._opening is not None and self._next == self._opening.chunks:
            self._opening = None
        return self._opening is None


# The last frame of a stream before which each answer is allowed.
_ANSWERS = {
    Kind.LOADED: (Kind.CODE,),
    Kind.RESULT: (Kind.BATCH,),
    Kind.RECEIPT: (Kind.RESULT,),
    Kind.REFUSED: (Kind.CODE, Kind.BATCH),
}


class Ledger:
    """The open streams and the credit that is left. Client and worker each keep one and come to the same result.

    Args:
        credit_bytes: credit from READY.
        open_streams: largest number of open streams, from READY.
    """

    def __init__(self, credit_bytes: int, open_streams: int) -> None:
        self._limit_bytes, self._limit_streams = credit_bytes, open_streams
        self._credit_bytes = credit_bytes
        self._open: dict[int, Kind] = {}
        self._highest = 0

    @property
    def credit_bytes(self) -> int:
        """The number of bytes of batches that may be opened now."""
        return self._credit_bytes

    @property
    def open_streams(self) -> tuple[int, ...]:
        """The streams without an answer, oldest first."""
        return tuple(self._open)

    @property
    def next_stream(self) -> int:
        """The lowest number that a new stream may have."""
        return self._highest + 1

    def room(self, kind: Kind, total: int) -> bool:
        """Whether a CODE or BATCH of ``total`` bytes may be opened now. Only batches take credit."""
        if len(self._open) >= self._limit_streams:
            return False
        return Kind.CODE not in self._open.values() if kind is Kind.CODE else total <= self._credit_bytes

    def open(self, header: Header) -> None:
        """Register a CODE or BATCH.

        Raises:
            StreamRefused: the number was used before, or too much is open.
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
        """Register LOADED, RESULT, RECEIPT or REFUSED. All but RESULT close the stream.

        Raises:
            StreamRefused: ``UNKNOWN_STREAM``, the stream is not open, or does not expect this answer.
        """
        state = self._open.get(stream)
        if state is None or state not in _ANSWERS[answer]:
            raise refusal(Refusal.UNKNOWN_STREAM, f"{answer.name} for stream {stream}, which does not expect it")
        if answer is Kind.RESULT:
            self._open[stream] = Kind.RESULT
        else:
            del self._open[stream]

    def cancel(self, stream: int) -> bool:
        """Register CANCEL. Returns False if the stream has been answered meanwhile, which is allowed.

        Raises:
            StreamRefused: ``UNKNOWN_STREAM``, there was never such a stream.
        """
        if stream > self._highest:
            raise refusal(Refusal.UNKNOWN_STREAM, f"CANCEL for stream {stream}, which was never opened")
        return self._open.get(stream) in (Kind.CODE, Kind.BATCH)

    def release(self, credit_bytes: int) -> None:
        """Register CREDIT.

        Raises:
            StreamRefused: ``CREDIT_EXCEEDED``, it returns more than was taken.
        """
        if self._credit_bytes + credit_bytes > self._limit_bytes:
            raise refusal(Refusal.CREDIT_EXCEEDED, f"{credit_bytes} bytes of credit returned, more than were taken")
        self._credit_bytes += credit_bytes
