"""How a stream is cut into chunks. Any other cut within the limits of the protocol is understood as well."""

from __future__ import annotations

from sectum.hetee.wire.header import chunks_needed
from sectum.hetee.wire.kinds import CHUNK_BYTES

CHUNK_BYTES_USUAL = 128 << 10


def usual_chunk_bytes(total: int, *, alone: bool = True) -> int:
    """The default chunk size for ``total`` bytes.

    A stream that is ``alone`` in flight is sent in quarters of 128 KiB to 1 MiB, so that work begins with the first
    chunk. Otherwise chunks have the largest size, which costs fewer system calls.
    """
    return min(CHUNK_BYTES, max(CHUNK_BYTES_USUAL, -(-total // 4))) if alone else CHUNK_BYTES


def cut_for_company(total: int, chunks: int) -> bool:
    """Whether a stream of ``total`` bytes in so many chunks was cut as one that is not alone in flight."""
    return chunks < chunks_needed(total, usual_chunk_bytes(total, alone=True))
