"""What a profile consists of: where a constant comes from, what threads add, and the time that it predicts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a constant comes from.

    Attributes:
        kind: measured, fitted, published, default, definition, or unknown for a constant that has no value.
        source: who measured or defined it, and how.
        doi: of the publication.
        date: of the measurement, ISO 8601.
    """

    kind: str
    source: str
    doi: str | None = None
    date: str | None = None


@dataclass(frozen=True, slots=True)
class InferenceTime:
    """The time of one inference in an enclave, by cause."""

    compute_ms: float
    memory_ms: float
    paging_ms: float
    entry_ms: float

    @property
    def total_ms(self) -> float:
        """The whole inference."""
        return self.compute_ms + self.memory_ms + self.paging_ms + self.entry_ms


@dataclass(frozen=True, slots=True)
class ThreadModel:
    """Costs that each thread beyond the first adds."""

    compute_factor: float = 0.0
    """Added to 1, multiplies the compute factor."""
    page_factor: float = 0.0
    """Added to 1, multiplies the cost of a page fault."""
    base_us: float = 0.0
    """Microseconds added to an inference."""
