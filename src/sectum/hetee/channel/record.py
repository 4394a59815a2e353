"""Record protection: seals and opens frames under a traffic secret."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sectum.hetee.channel.schedule import IV_BYTES, expand
from sectum.hetee.channel.secret import Secret
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire.header import HEADER_BYTES, Header
from sectum.hetee.wire.kinds import TAG_BYTES, Kind

Buffer = bytes | bytearray | memoryview

SEQUENCE_END = (1 << 64) - 1
EPOCH_END = (1 << 32) - 1


@dataclass(frozen=True)
class Rekeying:
    """The size of an epoch. Both sides must use the same numbers; the defaults are the protocol's."""

    records: int = 1 << 20
    n_bytes: int = 1 << 36


PROTOCOL_REKEYING = Rekeying()


def seal_into(cipher: AESGCM, nonce: Buffer, plaintext: Buffer, associated: Buffer, out: memoryview) -> None:
    """Seal with AES-256-GCM into ``out``, 16 bytes longer than the plaintext; it may begin with the plaintext."""
    cipher.encrypt_into(nonce, plaintext, associated, out)


def open_into(cipher: AESGCM, nonce: Buffer, sealed: Buffer, associated: Buffer, out: memoryview) -> None:
    """Open AES-256-GCM into ``out``, 16 bytes shorter than ``sealed``; it may be the beginning of ``sealed``.

    Raises:
        RecordRefused: ``NOT_AUTHENTIC``; ``out`` is then zero.
    """
    try:
        cipher.decrypt_into(nonce, sealed, associated, out)
    except InvalidTag:
        out[:] = bytes(len(out))
        raise refusal(Refusal.NOT_AUTHENTIC, f"the tag over {len(out)} bytes is wrong") from None


class _Direction:
    """Epoch, key and counter of one direction, kept equal by sender and receiver."""

    def __init__(self, traffic: Secret, session: bytes, rekeying: Rekeying = PROTOCOL_REKEYING) -> None:
        self.session = session
        self._rekeying = rekeying
        self._traffic = traffic
        self._sequence = self._epoch = 0
        self._records = self._bytes = self._iv = 0
        self._cipher: AESGCM | None = None
        self._load()

    def __repr__(self) -> str:
        state = "wiped" if self._traffic.wiped else f"epoch {self._epoch}, sequence {self._sequence}"
        return f"{type(self).__name__}({state})"

    def wipe(self) -> None:
        """Overwrite the keys. Every further record is refused."""
        self._traffic.wipe()
        self._iv = 0
        self._cipher = None

    def _load(self) -> None:
        with expand(self._traffic, "key").reveal() as key:
            self._cipher = AESGCM(key)
        with expand(self._traffic, "iv", n_bytes=IV_BYTES).reveal() as iv:
            self._iv = int.from_bytes(iv)

    def _take(self, n_bytes: int) -> tuple[AESGCM, int, int, bytes]:
        """Cipher, epoch, number and nonce of the next record, in a new epoch if it needs one.

        Raises:
            RecordRefused: ``EXHAUSTED`` or ``WIPED``.
        """
        if self._cipher is None:
            raise refusal(Refusal.WIPED, "the keys of this direction were wiped")
        if self._records >= self._rekeying.records or self._bytes + n_bytes > self._rekeying.n_bytes:
            if self._epoch + 1 >= EPOCH_END:
                raise refusal(Refusal.EXHAUSTED, "no epoch is left in this session")
            old, self._traffic = self._traffic, expand(self._traffic, "update")
            old.wipe()
            self._epoch += 1
            self._records = self._bytes = 0
            self._load()
        if self._sequence >= SEQUENCE_END:
            raise refusal(Refusal.EXHAUSTED, "no record number is left in this session")
        sequence = self._sequence
        self._sequence = sequence + 1
        self._records += 1
        self._bytes += n_bytes
        return self._cipher, self._epoch, sequence, (self._iv ^ sequence).to_bytes(IV_BYTES)


class Sealer(_Direction):
    """Seals the records of one direction.

    Threads may seal concurrently: each record gets its number before it is sealed, so no nonce is used twice. Records
    must be sent in the order of their numbers.
    """

    def __init__(self, traffic: Secret, session: bytes, rekeying: Rekeying = PROTOCOL_REKEYING) -> None:
        super().__init__(traffic, session, rekeying)
        self._lock = threading.Lock()

    def seal_into(
        self,
        kind: Kind,
        plaintext: Buffer,
        out: bytearray | memoryview,
        *,
        stream: int = 0,
        chunk: int = 0,
        chunks: int = 0,
        total: int = 0,
        context: bytes = b"",
    ) -> int:
        """Write a whole frame into ``out`` and return its length: 80 bytes more than ``plaintext``.

        The plaintext may be in ``out`` from byte 64 on; it is then sealed in place.

        Args:
            kind: a sealed type.
            plaintext: plaintext of the payload.
            out: at least as long as the frame.
            stream: as the specification gives it for ``kind``.
            chunk: index of a CHUNK.
            chunks: number of chunks, in openings and CHUNK.
            total: plaintext bytes of all chunks, in openings and CHUNK.
            context: for CHUNK, `wire.streams.ChunkReassembly.context`.

        Raises:
            RecordRefused: ``EXHAUSTED`` or ``WIPED``.
        """
        n_bytes = len(plaintext)
        frame = memoryview(out)[: HEADER_BYTES + n_bytes + TAG_BYTES]
        if len(frame) < HEADER_BYTES + n_bytes + TAG_BYTES:
            raise ValueError(f"a frame of {HEADER_BYTES + n_bytes + TAG_BYTES} bytes in a space of {len(frame)}")
        with self._lock:
            cipher, epoch, sequence, nonce = self._take(n_bytes)
        head = Header(kind, n_bytes + TAG_BYTES, epoch, self.session, sequence, stream, chunk, chunks, total).pack()
        frame[:HEADER_BYTES] = head
        seal_into(cipher, nonce, plaintext, head + context, frame[HEADER_BYTES:])
        return len(frame)

    def seal(self, kind: Kind, plaintext: Buffer, *, stream: int = 0, chunks: int = 0, total: int = 0) -> bytearray:
        """Write a whole frame of a message; chunks are sealed with `seal_into`.

        Raises:
            RecordRefused: as `seal_into`.
        """
        out = bytearray(HEADER_BYTES + len(plaintext) + TAG_BYTES)
        self.seal_into(kind, plaintext, out, stream=stream, chunks=chunks, total=total)
        return out


class Opener(_Direction):
    """Opens the records of one direction, each once and in order. A refusal wipes its keys."""

    def open_into(self, header: Header, sealed: Buffer, out: memoryview, *, context: bytes = b"") -> None:
        """Open the payload of a frame into ``out``, which may be the beginning of ``sealed``.

        Args:
            header: the frame's header, from `wire.header.parse`.
            sealed: the frame's payload.
            out: exactly 16 bytes shorter than ``sealed``; zero after a refusal.
            context: for CHUNK, `wire.streams.ChunkReassembly.context`.

        Raises:
            RecordRefused: it is not the next authentic record of this direction.
        """
        try:
            cipher, epoch, sequence, nonce = self._take(len(sealed) - TAG_BYTES)
            if (header.session, header.epoch, header.sequence) != (self.session, epoch, sequence):
                raise self._not_next(header, epoch, sequence)
            open_into(cipher, nonce, sealed, header.pack() + context, out)
        except HeteeError:
            self.wipe()
            raise

    def open(self, header: Header, sealed: Buffer) -> bytearray:
        """Open the payload of a message.

        Raises:
            RecordRefused: as `open_into`.
        """
        out = bytearray(max(len(sealed) - TAG_BYTES, 0))
        self.open_into(header, sealed, memoryview(out))
        return out

    def _not_next(self, header: Header, epoch: int, sequence: int) -> HeteeError:
        """The refusal of a record that is not the next one."""
        if header.session != self.session:
            return refusal(Refusal.WRONG_SESSION, "a record of another session")
        if header.sequence != sequence:
            code = Refusal.REPLAYED if header.sequence < sequence else Refusal.GAP
            return refusal(code, f"record {header.sequence}, expected {sequence}")
        return refusal(Refusal.WRONG_EPOCH, f"a record of epoch {header.epoch}, expected {epoch}")
