"""Weights in files beside the model: where those may be, and reading them.

A model is untrusted, and so are the paths in it. A location is accepted only if it is relative, has no
``..``, and after all symbolic links are resolved lies in the model's own folder, as a regular file with one
name.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sectum.errors import ModelMalformed, ModelUnreadable, ModelUnsafe
from sectum.graph.raw_tensor import RawTensor


@dataclass(frozen=True, slots=True)
class ExternalRange:
    """Bytes of a tensor in another file; the file was checked when this was made, and is again when read."""

    tensor: str
    folder: Path
    location: str
    offset: int
    n_bytes: int

    def read(self) -> bytes:
        """Tensor's bytes.

        Raises:
            ModelUnsafe: the location leads out of the model's folder.
            ModelMalformed: the file is too short.
            ModelUnreadable: the file is missing or cannot be read.
        """
        fd = _open(self.folder, self.location, self.tensor)
        try:
            _check_size(self, os.fstat(fd).st_size)
            parts = []
            at, left = self.offset, self.n_bytes
            while left and (part := os.pread(fd, min(left, 1 << 26), at)):
                parts.append(part)
                at, left = at + len(part), left - len(part)
        except OSError as problem:
            raise _unreadable(self.location, problem) from None
        finally:
            os.close(fd)
        if left:
            raise _too_short(self, at)
        return b"".join(parts)


def locate(tensor: RawTensor, folder: Path | None) -> ExternalRange:
    """Check a tensor's external data without reading it.

    Args:
        tensor: an initialiser with external data.
        folder: the folder of the model file; None for a model given as bytes.

    Raises:
        ModelUnsafe: the location leads out of the model's folder, or there is no folder.
        ModelMalformed: offset or length are no numbers, or do not fit the tensor or the file.
        ModelUnreadable: the file is missing or cannot be read.
    """
    entries = tensor.external or {}
    location = entries.get("location", "")
    if folder is None:
        raise ModelUnsafe(
            f"tensor '{tensor.name}' lies in the separate file '{location[:200]}', and a model given as "
            "bytes has no folder: read the model from its path"
        )
    if tensor.dtype == "string":
        raise ModelMalformed(f"tensor '{tensor.name}' is text, which cannot lie in a separate file")
    offset = _number(tensor, "offset", 0)
    length = _number(tensor, "length", tensor.n_bytes)
    if length != tensor.n_bytes:
        raise ModelMalformed(
            f"tensor '{tensor.name}' of shape {list(tensor.shape)} and type {tensor.dtype} needs "
            f"{tensor.n_bytes} bytes and its external data has {length}: the model is damaged"
        )
    place = ExternalRange(tensor.name, folder, location, offset, length)
    fd = _open(folder, location, tensor.name)
    try:
        _check_size(place, os.fstat(fd).st_size)
    finally:
        os.close(fd)
    return place


def _number(tensor: RawTensor, key: str, default: int) -> int:
    text = (tensor.external or {}).get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ModelMalformed(
            f"tensor '{tensor.name}': the external data's {key} is '{text[:40]}', expected a number of bytes"
        )
    return int(text)


def _open(folder: Path, location: str, tensor: str) -> int:
    parts = PurePosixPath(location).parts
    if not parts or location.startswith("/") or ".." in parts or "\0" in location or "\\" in location:
        raise ModelUnsafe(
            f"tensor '{tensor}' lies at '{location[:200]}': only relative paths inside the model's folder "
            "are read; save the weights beside the model"
        )
    try:
        base = folder.resolve(strict=True)
        target = (base / location).resolve(strict=True)
        if not target.is_relative_to(base):
            raise ModelUnsafe(
                f"tensor '{tensor}' lies at '{location[:200]}', a link that leads out of the model's folder: "
                "copy the weights beside the model"
            )
        fd = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, RuntimeError, ValueError) as problem:  # RuntimeError: a loop of links
        raise _unreadable(location, problem) from None
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or info.st_nlink > 1:
        os.close(fd)
        raise ModelUnsafe(
            f"tensor '{tensor}' lies at '{location[:200]}', which is no regular file with a single name (a "
            "hard link may lead out of the model's folder): copy the weights beside the model"
        )
    return fd


def _check_size(place: ExternalRange, size: int) -> None:
    if place.offset + place.n_bytes > size:
        raise _too_short(place, size)


def _too_short(place: ExternalRange, size: int) -> ModelMalformed:
    return ModelMalformed(
        f"tensor '{place.tensor}' needs bytes {place.offset} to {place.offset + place.n_bytes} of "
        f"'{place.location[:200]}', which has {size}: the file is truncated or belongs to another model"
    )


def _unreadable(location: str, problem: Exception) -> ModelUnreadable:
    reason = problem.strerror if isinstance(problem, OSError) else str(problem)
    return ModelUnreadable(
        f"the file '{location[:200]}' with the model's weights cannot be read ({reason}): put it beside the model"
    )
