"""Records of networks that nobody measured, with every column of the dataset."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sectum.lab.dataset.dataset import SAMPLE_COLUMNS


def run(place: str = "native", epc_bytes: int | None = None, **changes: Any) -> dict[str, Any]:
    """Make a run; its numbers are exact in the columns' types."""
    return {
        "place": place,
        "epc_bytes": epc_bytes,
        "latency": 2.5,
        "uncertainty": 0.03125,
        "products_ms": 2.0,
        "sums_ms": 4.0,
        "sums_share": 0.25,
        "stopped_because": "precise",
        "settled": True,
        "period": 1,
        "warm_up": 3,
        "loads": 0.0,
        "evictions": 0.0,
        "minor_faults": 0.0,
        "zero_fills": 0.0,
        "live_bytes": 1 << 20,
        "resident_bytes": 1 << 20,
        "peak_resident_bytes": 1 << 21,
        "outputs_equal_native": True,
        **{f"sample_{name}": [1, 2, 3] for name in SAMPLE_COLUMNS},
        **changes,
    }


def record(number: int, **changes: Any) -> dict[str, Any]:
    """Make a network; the number decides key and structure."""
    return {
        "key": f"alexnet/{number}/b1",
        "family": "alexnet",
        "source": "sample",
        "seed": number,
        "width": 0.75,
        "resolution": 64,
        "batch": 1,
        "threads": 1,
        "structure": f"{number:032x}",
        "topology": "0" * 32,
        "graph": "[1,17,[],[],[],[]]",
        "weight_bytes": 1000,
        "flops": 10**12,
        "working_set_bytes": 4 << 20,
        "model_live_bytes": 5 << 20,
        "operator_times": [0.5, 1.5],
        "runs": [run(), run("softepc", 8 << 20), run("softepc", 1 << 20, loads=1024.0)],
        "error": "",
        "machine": "here",
        "date": "2026-01-02T03:04:05+00:00",
        "seconds": 4.5,
        **changes,
    }


def failed(number: int, reason: str = "EnclaveDeadline: too long") -> dict[str, Any]:
    """Make a network that could not be measured."""
    nothing = dict.fromkeys(("working_set_bytes", "model_live_bytes", "operator_times"))
    return record(number, error=reason, runs=[], **nothing)


@contextmanager
def room_for(n_bytes: int) -> Iterator[None]:
    """No file grows beyond so many bytes: what a full disk does to whoever writes."""
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, unlimited[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
