"""Numbers as people read them: three significant digits, with their unit."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sectum.predict.prediction import Interval

_QUANTITY = re.compile(r"(?<=\d) (?=(?:ms|us|KiB|MiB|GiB|%|times)\b|%)")


def join_units(text: str) -> str:
    """Put no-break spaces between numbers and their units."""
    return _QUANTITY.sub("\N{NO-BREAK SPACE}", text)


def milliseconds(value_ms: float) -> str:
    """Write a time: ``3,010 ms``, ``26.4 ms``, ``0.53 ms``."""
    return f"{number(value_ms)} ms"


def interval(ends_ms: Interval) -> str:
    """Write the interval of a latency: ``90 % interval 1.5 to 2.25 ms``."""
    return f"90 % interval {number(ends_ms.low)} to {milliseconds(ends_ms.high)}"


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
    """Write a count: ``141,674``; a small mean keeps one digit: ``2.5``."""
    return f"{value:,.0f}" if value == round(value) or value >= 100 else f"{value:,.1f}"


def plural(n: int, noun: str) -> str:
    """Write a count with its noun: ``1 thread``, ``4 threads``."""
    return f"1 {noun}" if n == 1 else f"{n:,} {noun}s"


def times(factor: float) -> str:
    """Write a ratio: ``5.6 times``."""
    return f"{factor:,.0f} times" if factor >= 20 else f"{factor:.1f} times"


def percent(share: float) -> str:
    """Write a share: ``82 %``; less than half a per cent is ``< 1 %``."""
    if 0 < share < 0.005:
        return "< 1 %"
    return f"{share:.0%}".replace("%", " %")
