"""What an operator does for one strip; plans and enclaves say it alike."""

from __future__ import annotations

from dataclasses import dataclass

Rows = tuple[int, int]
"""From, and up to but without."""


@dataclass(frozen=True, slots=True)
class StripOperator:
    """What an operator does for one strip.

    Attributes:
        made: rows of its result.
        reads: for each input, the rows that it reads; None for weights, and for what it reads as a whole.
        pads: that replace its own: above, left, below, right; None where it has none.
    """

    made: Rows
    reads: tuple[Rows | None, ...]
    pads: tuple[int, ...] | None
