"""When each stage is opened and computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """A piece of time in milliseconds from the start of the inference."""

    begin_ms: float
    end_ms: float

    @property
    def ms(self) -> float:
        """Its length."""
        return self.end_ms - self.begin_ms


@dataclass(frozen=True, slots=True)
class StageTimes:
    """When a stage is opened, None if its weights stay, and when it computes."""

    opening: Interval | None
    computing: Interval


def timeline(opening_ms: Sequence[float | None], computing_ms: Sequence[float], buffers: int) -> list[StageTimes]:
    """When each stage is opened and computed.

    Args:
        opening_ms: of each stage; None where its weights stay in the enclave.
        computing_ms: of each stage.
        buffers: with 1, the thread that computes opens each stage before; with more, another thread opens ahead, as
            soon as a buffer is free.
    """
    times: list[StageTimes] = []
    now = opener_free = 0.0
    freed: list[float] = []  # when each streamed stage so far was done with its buffer
    for open_ms, compute_ms in zip(opening_ms, computing_ms, strict=True):
        opening = None
        if open_ms is not None:
            buffer_free = freed[-buffers] if len(freed) >= buffers else 0.0
            begin = now if buffers == 1 else max(opener_free, buffer_free)
            opening = Interval(begin, begin + open_ms)
            opener_free = opening.end_ms
            now = max(now, opening.end_ms)
        computing = Interval(now, now + compute_ms)
        now = computing.end_ms
        if open_ms is not None:
            freed.append(now)
        times.append(StageTimes(opening, computing))
    return times
