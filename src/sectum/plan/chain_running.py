"""What a chain of enclaves needs to run a plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sectum.ort.optimized import OptimizedGraph
from sectum.plan.chain_shape import EnclaveShape
from sectum.plan.planned_chain import PlannedChain
from sectum.plan.running import arena_room, prepared_streams, streams_of

_OF_AN_ENCLAVE = ("buffers", "buffer_bytes", "arena_bytes")


@contextmanager
def prepared_chain(
    model: bytes, graph: OptimizedGraph, chain: PlannedChain, shapes: Sequence[EnclaveShape]
) -> Iterator[dict[str, Any]]:
    """Write the graph for a plan, for as long as the context lasts; give what `ChainRunner` needs to run it.

    Args:
        model: serialised ONNX model with static shapes.
        graph: what the runtime executes for it.
        chain: the plan.
        shapes: EPC and threads of each enclave.

    Raises:
        RuntimeRefused: ONNX Runtime cannot load the model, or cannot write what it executes.
        EnclaveUnavailable: libstreaming cannot be compiled here.
    """
    with prepared_streams(model, graph, chain.stages, 1, 0) as streams:
        enclaves = []
        for one, shape in zip(chain.enclaves, shapes, strict=True):
            own = streams_of(streams, graph, one.stages, one.buffers, arena_room(one.layout.arena_bytes))
            memory = {name: own[name] for name in _OF_AN_ENCLAVE}
            enclaves.append({"epc_bytes": shape.epc_bytes, "threads": shape.threads, **memory})
        yield {**streams, "bounds": list(chain.bounds), "enclaves": enclaves}
