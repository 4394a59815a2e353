"""The plaintext of a stream, cut into chunks without copying it into one buffer first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sectum.hetee.client.inputs import InputTensor
from sectum.hetee.data_plane.chunk_sizes import usual_chunk_bytes
from sectum.hetee.data_plane.messages import Tensor
from sectum.hetee.data_plane.tensors import layout
from sectum.hetee.wire.header import chunks_needed


class Plaintext:
    """The bytes of a CODE or a BATCH, in several parts.

    Args:
        parts: memory in the order of the stream; a number stands for that many zero bytes.
        chunk_bytes: size of all chunks but the last; None for the usual size.
        alone: whether no other result is pending.
    """

    def __init__(
        self, parts: Sequence[memoryview | int], chunk_bytes: int | None = None, *, alone: bool = True
    ) -> None:
        self._parts = [memoryview(bytes(part)) if isinstance(part, int) else part for part in parts if part]
        self.total = sum(map(len, self._parts))
        self.alone = alone
        self._chunk_bytes = chunk_bytes or usual_chunk_bytes(self.total, alone=alone)
        self.chunks = chunks_needed(self.total, self._chunk_bytes)

    @classmethod
    def of(
        cls, input_tensors: Sequence[InputTensor], chunk_bytes: int | None = None, *, alone: bool = True
    ) -> Plaintext:
        """The tensors of a batch, with the padding between them.

        Raises:
            MessageRefused: ``BAD_TENSOR``, they do not fit into a stream.
        """
        tensors: tuple[Tensor, ...] = tuple(piece.tensor for piece in input_tensors)
        parts: list[memoryview | int] = []
        at = 0
        for place, piece in zip(layout(tensors), input_tensors, strict=True):
            parts += [place.begin - at, *piece.parts]
            at = place.end
        return cls(parts, chunk_bytes, alone=alone)

    def cut(self) -> Iterator[list[memoryview]]:
        """Yield the parts of each chunk. A chunk that is contiguous in memory has one part."""
        chunk: list[memoryview] = []
        room = self._chunk_bytes
        for part in self._parts:
            at = 0
            while at < len(part):
                taken = part[at : at + room]
                chunk.append(taken)
                at, room = at + len(taken), room - len(taken)
                if not room:
                    yield chunk
                    chunk, room = [], self._chunk_bytes
        if chunk:
            yield chunk
