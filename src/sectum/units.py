"""Sizes in bytes, read and written as people do (``93MiB``)."""

from __future__ import annotations

import math
import re

from sectum.errors import UsageError

PAGE_BYTES = 4096
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

_FACTORS = {"": 1, "b": 1, "k": KIB, "kib": KIB, "kb": 1000, "m": MIB, "mib": MIB, "mb": 10**6,
            "g": GIB, "gib": GIB, "gb": 10**9}  # fmt: skip
_SIZE = re.compile(r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*([a-zA-Z]{0,3})\s*")


def parse_bytes(text: str) -> int:
    """Read a size such as ``93MiB``, ``1.5GiB`` or ``97517568`` as bytes.

    Raises:
        UsageError: the text is not a size.
    """
    match = _SIZE.fullmatch(text)
    factor = _FACTORS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise UsageError(f"'{text}' is not a size: write for example 93MiB, 1.5GiB or a number of bytes")
    return int(float(match[1]) * factor)


def format_bytes(n_bytes: float, *, round_up: bool = False) -> str:
    """Write a size for people: ``93 MiB``, ``7.5 MiB``, ``105 MiB``, ``1.27 GiB``.

    Args:
        n_bytes: the size.
        round_up: never write less than the size, so that an EPC of the written size is large enough.
    """
    size = abs(n_bytes)
    if size < KIB:
        return f"{n_bytes:.0f} B"
    # From 1023.5 of the smaller unit on, so that three digits never round to 1,024.
    unit, step = next(
        (name, factor) for factor, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")) if size >= 0.9995 * factor
    )
    amount = n_bytes / step
    digits = 0 if size >= 100 * step or amount == int(amount) else 2 if unit == "GiB" and size < 10 * step else 1
    if round_up:
        amount = math.ceil(amount * 10**digits) / 10**digits
    return f"{amount:,.{digits}f} {unit}"


def pages(n_bytes: int) -> int:
    """How many 4 KiB pages hold ``n_bytes``."""
    return -(-n_bytes // PAGE_BYTES)
