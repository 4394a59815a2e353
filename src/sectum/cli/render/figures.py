"""Numbers as people read them: three significant digits, with their unit."""

from __future__ import annotations

import math
import re

from sectum.units import GIB, KIB, MIB

_QUANTITY = re.compile(r"(?<=\d) (?=(?:ms|us|KiB|MiB|GiB|%|times)\b|%)")


def unbroken(text: str) -> str:
    """Tie numbers to their units by spaces at which no line ends."""
    return _QUANTITY.sub("\N{NO-BREAK SPACE}", text)


def milliseconds(value_ms: float) -> str:
    """Write a time: ``3,010 ms``, ``26.4 ms``, ``0.53 ms``."""
    return f"{number(value_ms)} ms"


def number(value: float) -> str:
    """Write three significant digits, at most two of them after the point: ``3,010``, ``0.53``."""
    if value == 0:
        return "0"
    if 0 < abs(value) < 0.005:
        return "< 0.01"
    rounded = float(f"{value:.3g}")  # first, so that 9.999 counts as 10.0 when digits are counted
    digits = 2 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:,.{min(max(0, digits), 2)}f}"


def count(value: float) -> str:
    """Write how many there are: ``141,674``; a mean that is not whole keeps one digit."""
    return f"{value:,.0f}" if value == round(value) or value >= 100 else f"{value:,.1f}"


def times(factor: float) -> str:
    """Write a ratio in words: ``5.6 times``."""
    return f"{factor:,.0f} times" if factor >= 20 else f"{factor:.1f} times"


def percent(share: float) -> str:
    """Write a share: ``82 %``; what is there but rounds to nothing is ``< 1 %``."""
    if 0 < share < 0.005:
        return "< 1 %"
    return f"{share:.0%}".replace("%", " %")


def mebibytes(n_bytes: float) -> str:
    """Write memory so that two amounts can be compared: MiB from 1 MiB up to 10 GiB."""
    if n_bytes == 0:
        return "0"
    unit, step, digits = _scale(n_bytes)
    return f"{n_bytes / step:,.{digits}f} {unit}"


def enough(n_bytes: float) -> str:
    """Write memory rounded up, so that whoever gives an enclave as much as is written gives it enough."""
    unit, step, digits = _scale(n_bytes)
    return f"{math.ceil(n_bytes / step * 10**digits) / 10**digits:,.{digits}f} {unit}"


def _scale(n_bytes: float) -> tuple[str, int, int]:
    """The unit in which memory is written, its bytes, and the digits after the point."""
    size = abs(n_bytes)
    unit, step = ("KiB", KIB) if size < MIB else ("MiB", MIB) if size < 10 * GIB else ("GiB", GIB)
    return unit, step, 0 if size >= 100 * step else 1
