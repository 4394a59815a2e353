"""The bytes of a model, loaded as far as the parser reads them: big weights stay in the file.

A file up to `WHOLE_BYTES` is loaded whole. Of a larger one only the structure is loaded, into anonymous memory with a
place for every byte of the file: a byte lies there at its offset in the file, and pages into which nothing was loaded
take no memory. What is left out are payloads of tensors over `BIG_BYTES`, of which the parser wants the place alone.

The file is read, not mapped: whoever can write to a mapped file can kill the process that maps it, by truncating the
file (SIGBUS). See docs/adr/0009-weights-stay-in-the-file.md.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
import weakref
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from sectum.errors import ModelMalformed, ModelTooLarge, ModelUnreadable
from sectum.graph.limits import Limits
from sectum.graph.protobuf import BYTES, VARINT, Buffer, FieldBudget, fields
from sectum.units import KIB, MIB

WHOLE_BYTES = 16 * MIB
BIG_BYTES = 64 * KIB
"""Payloads over this size are left out. Constants whose values are read are smaller: 1,024 elements of 16 bytes at most
(`sectum.graph.folding.MAX_ELEMENTS`)."""

_AHEAD_BYTES = 4 * KIB
_HEADER_BYTES = 20  # of a field: a tag and a length, or a tag and a number, of 10 bytes each
_HASHED_BYTES = 1 * MIB

_Message: TypeAlias = "Mapping[int, _Message | None]"
# For each message the fields that lead to payloads. None marks a payload: raw data, float data, double data.
_TENSOR: _Message = {9: None, 4: None, 10: None}
_GRAPH: dict[int, _Message | None] = {5: _TENSOR}
_ATTRIBUTE: _Message = {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH}
_GRAPH[1] = {5: _ATTRIBUTE}
_MODEL: _Message = {7: _GRAPH}


class ModelFile:
    """A model's bytes. A file of which a part was left out stays open as long as this object lives.

    Args:
        buf: bytes at their offsets in the file; payloads of big tensors may be zeros there.
        path: of the file; None for a model given as bytes.
        fd: the open file, where a part was left out.
    """

    def __init__(self, buf: Buffer, path: Path | None = None, fd: int | None = None) -> None:
        self.buf, self.path = buf, path
        self._fd = fd
        if fd is not None:
            weakref.finalize(self, os.close, fd)
            self._state = _state(fd)

    def content(self) -> bytes:
        """All bytes.

        Raises:
            ModelUnreadable: the file cannot be read, or is not what it was when it was opened.
        """
        return b"".join(self._chunks(len(self.buf)))

    def sha256(self) -> str:
        """SHA-256 of all bytes, in hexadecimal.

        Raises:
            ModelUnreadable: the file cannot be read, or is not what it was when it was opened.
        """
        digest = hashlib.sha256()
        for chunk in self._chunks(_HASHED_BYTES):
            digest.update(chunk)
        return digest.hexdigest()

    def _chunks(self, n_bytes: int) -> Iterator[bytes]:
        """All bytes in order, as many at a time."""
        if self._fd is None:
            yield self.buf[:]
            return
        at = 0
        while at < len(self.buf):
            try:
                chunk = os.pread(self._fd, min(n_bytes, len(self.buf) - at), at)
            except OSError as problem:
                raise _unreadable(self.path, problem) from None
            if not chunk or _state(self._fd) != self._state:
                raise _changed(self.path)
            yield chunk
            at += len(chunk)


def load(source: str | os.PathLike[str] | bytes, limits: Limits) -> ModelFile:
    """Load a model as far as the parser reads it.

    Args:
        source: path of the file, or its bytes.
        limits: what it may ask for.

    Raises:
        ModelUnreadable: no such file, not a regular file, or it changes while it is read.
        ModelMalformed: empty, or not protobuf.
        ModelTooLarge: over a limit.
    """
    if isinstance(source, bytes):
        _check_size(len(source), "the model", limits)
        return ModelFile(source)
    path = Path(source)
    kept = False
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise ModelUnreadable(f"'{path}' is not a regular file: give the path of an ONNX file")
            _check_size(info.st_size, f"'{path}'", limits)
            if info.st_size <= WHOLE_BYTES:
                content = os.pread(fd, info.st_size, 0)
                if len(content) < info.st_size:
                    raise _changed(path)
                return ModelFile(content, path)
            structure = _Structure(fd, info.st_size, limits)
            structure.walk(0, info.st_size, _MODEL, 0)
            kept = True
            return ModelFile(structure.buf, path, fd)
        finally:
            if not kept:
                os.close(fd)
    except EOFError:
        raise _changed(path) from None
    except (OSError, ValueError) as problem:  # ValueError: a zero byte in the path
        raise _unreadable(path, problem) from None


class _Structure:
    """Loads a file from front to back, all but the big payloads."""

    def __init__(self, fd: int, size: int, limits: Limits) -> None:
        self.buf = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            with suppress(OSError):  # a kernel without huge pages; with them a byte would take 2 MiB
                self.buf.madvise(mmap.MADV_NOHUGEPAGE)
        self._fd, self._size = fd, size
        self._budget = FieldBudget(limits.fields)
        self._nesting = limits.nesting
        self._loaded = 0  # everything before this offset is loaded or left out

    def load(self, start: int, stop: int) -> None:
        """Make sure that the bytes up to ``stop`` are there; those from ``_loaded`` to ``start`` are left out.

        Raises:
            EOFError: the file is shorter than it was.
        """
        start = max(start, self._loaded)
        stop = min(stop, self._size)
        if stop <= start:
            return
        stop = min(max(stop, start + _AHEAD_BYTES), self._size)
        with memoryview(self.buf) as view:
            while start < stop:
                n_bytes = os.preadv(self._fd, [view[start:stop]], start)
                if not n_bytes:
                    raise EOFError
                start += n_bytes
        self._loaded = stop

    def walk(self, start: int, stop: int, message: _Message, depth: int) -> None:
        """Load the message in ``[start, stop)``.

        Args:
            start: where it begins.
            stop: where it ends.
            message: which of its fields lead to big payloads.
            depth: of the message in other messages.
        """
        # `fields` reads the next header when it is resumed. That begins between `known` and `reach`, since how long a
        # number is encoded is not known here.
        known = reach = start
        self.load(known, reach + _HEADER_BYTES)
        for number, kind, a, b in fields(self.buf, start, stop, self._budget):
            if kind == VARINT:
                reach += _HEADER_BYTES
            else:
                known = reach = b
                inner = message.get(number, {}) if kind == BYTES and b - a > BIG_BYTES else {}
                if inner and depth <= 3 * self._nesting:  # the parser refuses deeper ones
                    self.walk(a, b, inner, depth + 1)
                elif inner is not None and b > self._loaded:
                    self.load(a, b)
            if reach + _HEADER_BYTES > self._loaded:
                self.load(known, reach + _HEADER_BYTES)


def _state(fd: int) -> tuple[int, int]:
    info = os.fstat(fd)
    return info.st_size, info.st_mtime_ns


def _check_size(n_bytes: int, what: str, limits: Limits) -> None:
    if n_bytes == 0:
        raise ModelMalformed(f"{what} is empty: an ONNX model was expected")
    if n_bytes > limits.file_bytes:
        raise ModelTooLarge(
            f"{what} has {n_bytes} bytes; the limit is {limits.file_bytes}. Keep the weights in a separate "
            "file beside it (external data), or raise Limits.file_bytes"
        )


def _unreadable(path: Path | None, problem: Exception) -> ModelUnreadable:
    reason = problem.strerror if isinstance(problem, OSError) else str(problem)
    return ModelUnreadable(f"'{path}' cannot be read ({reason}): give the path of an ONNX file")


def _changed(path: Path | None) -> ModelUnreadable:
    return ModelUnreadable(f"'{path}' changed while it was in use: read it again when nothing writes to it")
