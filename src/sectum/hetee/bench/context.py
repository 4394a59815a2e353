"""The context of measurements: the machine, the versions and the settings, stored with the numbers."""

from __future__ import annotations

import datetime
import os
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sectum import __version__

if TYPE_CHECKING:
    from sectum.hetee.bench.inference import BenchPlan

_PACKAGES = ("cryptography", "numpy", "onnxruntime", "msgspec")


def machine() -> dict[str, Any]:
    """The machine, its load, and the versions of the software."""
    return {
        "measured": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "load_average": os.getloadavg(),
        "versions": {
            "sectum": __version__,
            "python": platform.python_version(),
            **{package: _version(package) for package in _PACKAGES},
        },
    }


def context(plan: BenchPlan) -> dict[str, Any]:
    """The machine, and what was measured on it and how."""
    from sectum.hetee.bench.published import FIGURES, ON
    from sectum.hetee.worker.accelerators.published import SOURCES

    return {
        **machine(),
        "what": "the confidential service against the same worker in plain, in turns",
        "mode": asdict(plan.mode),
        "task": plan.task,
        "paced_by": SOURCES[plan.task],
        "hetee": ON.replace("7a and 8a", f"7{FIGURES[plan.task]} and 8{FIGURES[plan.task]}"),
        "batches": plan.count,
        "threads": plan.threads,
        "seed": plan.seed,
        "interval": "95 %, bootstrap over the samples of this run",
        "evidence": "software: no hardware protects this",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return version(f"{package}-gpu")  # onnxruntime-gpu takes the place of onnxruntime


def _processor() -> str:
    """The name of the processor, as the kernel gives it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
