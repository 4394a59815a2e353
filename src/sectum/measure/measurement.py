"""What measuring one model in one place gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One model, measured in one place.

    Page counts are of one inference: means over the samples; None if the runner cannot count.

    Attributes:
        latency_ms: ratio to the reference kernels, times the machine's typical reference time.
        uncertainty: half-width of the 95 % interval of latency_ms, relative to it; None for a single sample.
        reference_ms: the reference time that turned the ratio into milliseconds.
        reference_source: ``calibration`` (given by the caller) or ``this run`` (its own mean).
        processes: number of processes, one after the other; the addresses of memory differ between them.
        samples: raw samples, in order: number of the process, latency_ms, wall_ms, times of the reference kernels
            before and after (``products``: GEMM kernel, ``sums``: reduction kernel) and their mixture (reference_ms),
            wait_ms, handler_ms, page counts, the ratio, ``disturbed`` (why it is flagged, or empty), ``used``.
        warm_up_runs: inferences before the first sample.
        stopped_because: ``precise``, ``runs``, ``samples``, ``deadline``, or ``ended`` if the process was ended at the
            deadline because an inference took too long.
        faults: sum of loads, zero fills and minor faults.
        loads: pages loaded.
        evictions: pages evicted.
        minor_faults: minor faults.
        zero_fills: pages touched for the first time.
        live_bytes: bytes allocated in the enclave, or by the native process.
        resident_bytes: part of live_bytes that is in memory.
        peak_resident_bytes: largest value of resident_bytes so far.
        outputs_equal_native: whether outputs equal the native run's, bit for bit; None if not compared, because
            the caller does not want it or the deadline passed.
        settled: whether page counts had settled before the first sample.
        period: number of inferences after which page counts repeat.
        context: machine, versions, runner, threads, seed, date; ``kind`` is ``measured`` or ``unverified``.
    """

    latency_ms: float
    uncertainty: float | None
    reference_ms: float
    reference_source: str
    processes: int
    samples: tuple[dict[str, Any], ...]
    warm_up_runs: int
    stopped_because: str
    faults: float | None
    loads: float | None
    evictions: float | None
    minor_faults: float | None
    zero_fills: float | None
    live_bytes: int
    resident_bytes: int
    peak_resident_bytes: int
    outputs_equal_native: bool | None
    settled: bool
    period: int
    context: dict[str, Any]

    @property
    def over_committed(self) -> bool | None:
        """Whether an inference pages; None if the runner cannot count.

        This depends on evictions, not on loads: a page that was evicted before the first inference, and that the
        runtime uses only now and then, is loaded during some sample even if nothing is evicted for it.
        """
        return None if self.evictions is None else self.evictions > 0

    def as_dict(self) -> dict[str, Any]:
        """Give plain values, for JSON; every field under its own name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}
