"""A stage of a plan."""

from __future__ import annotations

from dataclasses import dataclass

from sectum.plan.rows import Division


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """Consecutive operators that run together, or a part of one.

    Attributes:
        first: position of the first operator that the runtime executes.
        last: position of the last one.
        channels: where it is a part of one operator, its output channels: from, and up to but without.
        of_channels: output channels of that operator; 0 for whole operators.
        streamed: whether its weights are sealed outside and opened before it computes; else they stay.
        weight_bytes: of its weights as the runtime stores them.
        division: where it is computed strip by strip, how; else None.
    """

    first: int
    last: int
    channels: tuple[int, int] | None
    of_channels: int
    streamed: bool
    weight_bytes: int
    division: Division | None = None
