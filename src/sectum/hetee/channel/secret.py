"""Secret bytes that are overwritten after use."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from sectum.hetee.errors import Refusal, refusal


class Secret:
    """Secret bytes in one buffer, which `wipe` overwrites, at the latest when the object is deleted.

    ``repr`` does not show the bytes, comparison takes constant time, and copying and pickling are forbidden.
    ``docs/spec/threat-model.md`` lists what Python does not allow to wipe.
    """

    __slots__ = ("_buffer", "_wiped")

    def __init__(self, value: bytes | bytearray | memoryview) -> None:
        self._wiped = False
        self._buffer = bytearray(value)

    @classmethod
    def empty(cls, n_bytes: int) -> Secret:
        """A secret of zeros, to derive into."""
        return cls(bytes(n_bytes))

    @contextmanager
    def reveal(self) -> Iterator[memoryview]:
        """Give a view of the bytes for a ``with`` block; the view is released afterwards.

        Raises:
            RecordRefused: ``WIPED``.
        """
        if self._wiped:
            raise refusal(Refusal.WIPED, "a key was used after it was wiped")
        with memoryview(self._buffer) as view:
            yield view

    @property
    def wiped(self) -> bool:
        """Whether the bytes were overwritten."""
        return self._wiped

    def wipe(self) -> None:
        """Overwrite the bytes. Further calls have no effect."""
        self._wiped = True
        self._buffer[:] = bytes(len(self._buffer))

    def __len__(self) -> int:
        return len(self._buffer)

    def __repr__(self) -> str:
        return f"Secret({'wiped' if self._wiped else f'{len(self._buffer)} bytes'})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        with self.reveal() as mine, other.reveal() as theirs:
            return hmac.compare_digest(mine, theirs)

    __hash__ = None  # type: ignore[assignment]  # a hash would reveal information about the bytes

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be copied or pickled: share it")

    def __del__(self) -> None:
        self.wipe()
