"""Sizes as people write them (``93MiB``) to and from bytes."""

from __future__ import annotations

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


def format_bytes(n: int) -> str:
    """Write bytes for people: ``93.0 MiB``."""
    for factor, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if n >= factor:
            return f"{n / factor:.1f} {name}"
    return f"{n} B"


def pages(n_bytes: int) -> int:
    """How many 4 KiB pages hold ``n_bytes``."""
    return -(-n_bytes // PAGE_BYTES)
