"""Latency against the size of the EPC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sectum.enclave.profile import Profile
from sectum.graph.ir import Graph
from sectum.plan.latency import LatencyModel
from sectum.predict.predictor import Predictor
from sectum.predict.prepared import Prepared
from sectum.units import MIB, PAGE_BYTES

_POINTS = 36
_SMALLEST_BYTES = MIB


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Latency in milliseconds at one EPC size; ``low`` and ``high`` are the ends of its interval."""

    epc_bytes: int
    latency_ms: float
    low: float
    high: float


def epc_curve(predictor: Predictor, prepared: Prepared, profile: Profile) -> tuple[CurvePoint, ...]:
    """Predict the latency at other EPC sizes, in rising order; empty for a profile without EPC.

    Args:
        predictor: the one that prepared the network.
        prepared: the network.
        profile: the enclave.
    """
    if profile.epc_bytes is None:
        return ()
    points = []
    for size in epc_sizes(prepared.trace.pages * PAGE_BYTES, profile.epc_bytes):
        latency_ms, interval = predictor.latency_and_interval(prepared, profile.with_epc(size))
        points.append(CurvePoint(size, latency_ms, interval.low, interval.high))
    return tuple(points)


def latency_curve(
    model: LatencyModel, graph: Graph, profile: Profile, sizes: Sequence[int], *, threads: int = 1
) -> tuple[CurvePoint, ...]:
    """Predict a network that runs in one way in EPCs of these sizes.

    Args:
        model: of the way that it runs in.
        graph: the network.
        profile: the enclave.
        sizes: in bytes.
        threads: all of them.
    """
    points = []
    for size in sizes:
        found = model.latency(graph, profile.with_epc(size), threads=threads)
        points.append(CurvePoint(size, found.latency_ms, found.interval_ms.low, found.interval_ms.high))
    return tuple(points)


def epc_sizes(working_set_bytes: int, epc_bytes: int) -> list[int]:
    """Choose EPC sizes that show the curve: evenly spaced on a logarithmic axis, and on both sides of its step.

    Paging stops at the working set; the interval's step lies up to one per cent from it.
    """
    low = max(_SMALLEST_BYTES, min(working_set_bytes // 4, epc_bytes // 2))
    high = 2 * max(working_set_bytes, epc_bytes, _SMALLEST_BYTES)
    ratio = (high / low) ** (1 / (_POINTS - 1))
    sizes = {round(low * ratio**index) for index in range(_POINTS)}
    step = (round(working_set_bytes * factor) for factor in (0.99, 0.995, 1, 1.005, 1.01))
    sizes |= {epc_bytes} | {size for size in step if low < size < high}
    return sorted(sizes)
