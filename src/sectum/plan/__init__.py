"""How to run a network well: plans, advice, and the latency of networks that run in one way or another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sectum.plan.advising import Advised, Choice, Question, Setup, meet_bound
    from sectum.plan.epc_curve import latency_curve
    from sectum.plan.latency import ChainedLatency, Estimate, LatencyModel, PlannedLatency, UnplannedLatency

__all__ = [
    "Advised",
    "ChainedLatency",
    "Choice",
    "Estimate",
    "LatencyModel",
    "PlannedLatency",
    "Question",
    "Setup",
    "UnplannedLatency",
    "latency_curve",
    "meet_bound",
]

_LAZY = {
    **dict.fromkeys(("Advised", "Choice", "Question", "Setup", "meet_bound"), "sectum.plan.advising"),
    **dict.fromkeys(
        ("ChainedLatency", "Estimate", "LatencyModel", "PlannedLatency", "UnplannedLatency"), "sectum.plan.latency"
    ),
    "latency_curve": "sectum.plan.epc_curve",
}


def __getattr__(name: str) -> Any:
    """Load what plans at its first use: a prediction that does not page needs none of it."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
