"""What ONNX Runtime 1.31 does with a graph on the CPU: the optimized graph, its memory, its page trace, its work."""

from __future__ import annotations

from sectum.ort.costs import Coverage, OperatorCost, cost, coverage, require_supported
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.ort.optimized import OptimizedGraph
from sectum.ort.page_trace import PageTrace, page_trace

__all__ = [
    "Coverage",
    "Cpu",
    "OperatorCost",
    "OptimizedGraph",
    "PageTrace",
    "cost",
    "coverage",
    "optimize",
    "page_trace",
    "require_supported",
]
