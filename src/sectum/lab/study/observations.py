"""All observations of the study, and what they are made from."""

from __future__ import annotations

from collections.abc import Callable

from sectum.lab.study.costs import addition, operators, page_cost, slowdown, threads
from sectum.lab.study.fits import Numbers
from sectum.lab.study.memory import batches, cliff, inside, reuse
from sectum.lab.study.points import Study

OBSERVATIONS: dict[str, Callable[[Study], Numbers | None]] = {
    "inside": inside,
    "cliff": cliff,
    "reuse": reuse,
    "page-cost": page_cost,
    "addition": addition,
    "slowdown": slowdown,
    "batch": batches,
    "operators": operators,
    "threads": threads,
}
"""By the names that `sectum study show --only` takes."""


def about(study: Study) -> Numbers:
    """What was measured, how much of it, and where."""
    return {
        "cases": len({point.case.key for point in study.points}),
        "runs": len(study.points),
        "failures": len(study.failures),
        "unequal": study.unequal,
        "unsettled": sum(not point.settled for point in study.points),
        "minutes": study.seconds / 60,
        "products_ms": study.references.products_ms,
        "sums_ms": study.references.sums_ms,
        "machines": [
            {
                "shard": shard,
                "cpu_model": context.get("cpu_model", "unknown"),
                "kernel": context.get("kernel", "unknown"),
                "onnxruntime": context.get("versions", {}).get("onnxruntime", "unknown"),
                "date": context.get("date", "unknown"),
                "commit": context.get("commit", ""),
                "seed": context.get("seed"),
            }
            for shard, context in study.contexts.items()
        ],
    }
