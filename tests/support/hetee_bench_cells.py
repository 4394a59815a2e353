"""A cell of made-up samples."""

from __future__ import annotations

from sectum.hetee.bench.cell import Cell, Latencies


def cell(network: str = "GoogLeNet", batch: int = 4) -> Cell:
    """Baseline 40 ms and 70 batches a second; service 42 ms, of which 38 are work, and 56 batches a second."""
    baseline, service = Latencies(), Latencies()
    for wobble in (-0.2, 0.1, 0.0, 0.2):
        times_ns = {"preprocess": 24_000_000, "compute": 14_000_000, "encryption": 0, "transfer": 1}
        baseline.add(40.0 + wobble, times_ns, 0.0)
        service.add(42.0 + wobble, times_ns, 1.5)
    return Cell(network, batch, "paced", "paced", (baseline, service), ([70.0, 70.0], [56.0, 56.0]))
