"""Stage 1 of the paper: whether an inference pages in an enclave with so much protected memory."""

from __future__ import annotations

from sectum.lab.detector.detector import FORMS, SHIPPED, Detection, Detector, Estimates

__all__ = ["FORMS", "SHIPPED", "Detection", "Detector", "Estimates"]
