"""A stage of a plan."""

from __future__ import annotations

from dataclasses import dataclass

from sectum.enclave.streaming.narrow_weights import stored_bytes
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
        int8: whether streamed weights are stored as int8 and widened on use, which changes outputs.
    """

    first: int
    last: int
    channels: tuple[int, int] | None
    of_channels: int
    streamed: bool
    weight_bytes: int
    division: Division | None = None
    int8: bool = False

    @property
    def opened_bytes(self) -> int:
        """Weights that are opened in one inference."""
        if not self.streamed:
            return 0
        return stored_bytes(self.weight_bytes) if self.int8 else self.weight_bytes
