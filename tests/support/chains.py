"""Chains of enclaves for tests: a network that is cut evenly, whatever that costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from plans import divided, evenly
from sectum.graph import Model
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.plan.running import prepared_streams, streams_of
from sectum.units import MIB


@contextmanager
def chain_streams(
    model: Model, enclaves: int, *, by_channels: bool = False, arena_bytes: int = 16 * MIB, epc_bytes: int | None = None
) -> Iterator[dict[str, Any]]:
    """What `ChainRunner` needs to run a network in so many enclaves with the same number of stages each."""
    graph = optimize(model.graph, Cpu.here())
    stages = divided(graph) if by_channels else evenly(graph, 3 * enclaves)
    bounds = [round(place * len(stages) / enclaves) for place in range(enclaves)]
    with prepared_streams(model.bound_bytes(), graph, stages, 1, 0) as streams:
        made = []
        for begin, end in zip(bounds, [*bounds[1:], len(stages)], strict=True):
            own = streams_of(streams, graph, stages[begin:end], 1, arena_bytes)
            memory = {name: own[name] for name in ("buffers", "buffer_bytes", "arena_bytes")}
            made.append({"epc_bytes": epc_bytes, "threads": 1, **memory})
        yield {**streams, "bounds": bounds, "enclaves": made}
