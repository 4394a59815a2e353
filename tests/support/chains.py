"""Chains of enclaves for tests: a network that is cut evenly, whatever that costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from plans import divided, evenly
from sectum.graph import Model
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.ort.optimized import OptimizedGraph
from sectum.plan.running import prepared_streams, streams_of
from sectum.units import MIB


@contextmanager
def chain_streams(model: Model, enclaves: int, *, epc_bytes: int) -> Iterator[dict[str, Any]]:
    """What `ChainRunner` needs to run a network in so many enclaves with the same number of stages each."""
    graph = optimize(model.graph, Cpu.here())
    with prepared_streams(model.bound_bytes(), graph, evenly(graph, 1), 1, 0) as written:
        yield chained_streams(written, graph, enclaves, arena_bytes=16 * MIB, epc_bytes=epc_bytes)


def chained_streams(
    written: dict[str, Any],
    graph: OptimizedGraph,
    enclaves: int,
    *,
    arena_bytes: int,
    by_channels: bool = False,
    epc_bytes: int | None = None,
) -> dict[str, Any]:
    """The same for a graph that was written already, divided by channels or not."""
    stages = divided(graph) if by_channels else evenly(graph, 3 * enclaves)
    bounds = [round(place * len(stages) / enclaves) for place in range(enclaves)]
    made = []
    for begin, end in zip(bounds, [*bounds[1:], len(stages)], strict=True):
        own = streams_of(written, graph, stages[begin:end], 1, arena_bytes)
        memory = {name: own[name] for name in ("buffers", "buffer_bytes", "arena_bytes")}
        made.append({"epc_bytes": epc_bytes, "threads": 1, **memory})
    return {**streams_of(written, graph, stages, 1, arena_bytes), "bounds": bounds, "enclaves": made}
