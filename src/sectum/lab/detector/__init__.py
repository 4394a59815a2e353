"""Stage 1 of the paper's method: whether an inference pages in an enclave with an EPC of a given size."""

from __future__ import annotations

from sectum.lab.detector.detector import ARTEFACTS, Detector, WorkingSets, shipped_for

__all__ = ["ARTEFACTS", "Detector", "WorkingSets", "shipped_for"]
