"""Reads the file of a model that is to be sent."""

from __future__ import annotations

from pathlib import Path

from sectum.hetee.errors import Refusal, refusal


def read_model(path: str | Path) -> bytes:
    """The bytes of a model's file.

    Raises:
        WorkRefused: ``MODEL_REFUSED``, it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise refusal(Refusal.MODEL_REFUSED, f"{path} cannot be read: {error.strerror}") from None
