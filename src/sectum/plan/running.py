"""Runs a plan: has the runtime write the graph that it executes, and starts an enclave that runs it stage by stage."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

from sectum.enclave.runners.launch import child_environment
from sectum.enclave.streaming.library import streaming_library
from sectum.errors import RuntimeRefused
from sectum.ort.optimized import OptimizedGraph
from sectum.plan.layout import last_reads
from sectum.plan.rows import Division
from sectum.plan.stages import PlannedStage
from sectum.plan.units import packed_inputs
from sectum.units import MIB

_WRITING_DEADLINE_S = 600.0
_ARENA_SLACK = 1.5
"""The first inference allocates tensor by tensor, before the runtime has planned its memory."""
_BUFFER_SLACK, _BUFFER_SLACK_BYTES = 1.02, 64 << 10


@contextmanager
def prepared_streams(
    model: bytes, graph: OptimizedGraph, stages: Sequence[PlannedStage], buffers: int, arena_bytes: int
) -> Iterator[dict[str, Any]]:
    """Write the graph for a plan, for as long as the context lasts; give what a job needs to run it.

    Args:
        model: serialised ONNX model with static shapes.
        graph: what the runtime executes for it.
        stages: of the plan.
        buffers: that streamed weights are opened into.
        arena_bytes: activations are planned to take.

    Raises:
        RuntimeRefused: ONNX Runtime cannot load the model, or cannot write what it executes.
        EnclaveUnavailable: libstreaming cannot be compiled here.
    """
    library = streaming_library()
    # Files without names: nothing is left of them, however this process ends.
    with tempfile.TemporaryFile(prefix="sectum-") as structure, tempfile.TemporaryFile(prefix="sectum-") as weights:
        _write_graph(model, structure, weights)
        structure_at, weights_at = (f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in (structure, weights))
        written = {"structure": structure_at, "weights": weights_at, "library": str(library)}
        yield streams_of(written, graph, stages, buffers, arena_room(arena_bytes))


def arena_room(arena_bytes: int) -> int:
    """Memory for activations that are planned to take so many bytes."""
    return int(_ARENA_SLACK * arena_bytes) + MIB


def streams_of(
    written: Mapping[str, Any], graph: OptimizedGraph, stages: Sequence[PlannedStage], buffers: int, arena_bytes: int
) -> dict[str, Any]:
    """What a job needs to run stages of a written graph.

    Args:
        written: what `prepared_streams` has given for it.
        graph: what the runtime executes for it.
        stages: in order.
        buffers: that streamed weights are opened into.
        arena_bytes: memory for activations.
    """
    streamed = [stage.weight_bytes for stage in stages if stage.streamed]
    last_read = last_reads(graph, stages)
    return {
        **written,
        "executed": _executed(graph),
        "stages": [
            {
                "first": one.first,
                "last": one.last,
                "channels": one.channels,
                "streamed": one.streamed,
                "int8": one.int8,
                "strips": None if one.division is None else _strips(graph, one.division, last_read, number),
            }
            for number, one in enumerate(stages)
        ],
        "buffers": buffers,
        "buffer_bytes": int(_BUFFER_SLACK * max(streamed, default=0)) + _BUFFER_SLACK_BYTES,
        "arena_bytes": arena_bytes,
    }


def _write_graph(model: bytes, structure: IO[bytes], weights: IO[bytes]) -> None:
    with tempfile.TemporaryFile(prefix="sectum-") as source:
        source.write(model)
        source.flush()
        files = [file.fileno() for file in (source, structure, weights)]
        ended = _written(files)
    if ended.returncode != 0:
        said = ended.stderr.strip().splitlines()
        raise RuntimeRefused(
            f"ONNX Runtime cannot write the graph that it executes: {said[-1] if said else 'no reason'}"
        )


def _written(files: Sequence[int]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "sectum.enclave.streaming.written_graph", *map(str, files)]
    try:
        return subprocess.run(
            command,
            env=child_environment(),
            pass_fds=files,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_WRITING_DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeRefused(
            f"ONNX Runtime did not write the graph that it executes within {_WRITING_DEADLINE_S:g} s: try again when "
            "the machine is less busy"
        ) from error


def _strips(graph: OptimizedGraph, division: Division, last_read: Mapping[str, int], number: int) -> dict[str, Any]:
    """How a stage runs strip by strip; see `sectum.enclave.streaming.strips.Strips`."""
    makers = {name: place for place, op in enumerate(graph.operators) for name in op.outputs if name}
    over = division.over(last_read, number)
    return {
        "sources": [
            {
                "tensor": (makers[name], graph.operators[makers[name]].outputs.index(name)) if name in makers else name,
                "shape": graph.tensors[name].shape,
                "outer": division.outer[name],
            }
            for name in division.sources
        ],
        "results": [
            {
                "operator": makers[name] - division.first,
                "shape": graph.tensors[name].shape,
                "outer": division.outer[name],
                "over": division.sources.index(over[name]) if name in over else None,
            }
            for name in division.results
        ],
        "outer": [division.outer[op.result] for op in division.operators],
        "strips": [
            {
                "operators": [{"made": one.made, "reads": one.reads, "pads": one.pads} for one in strip.operators],
                "sources": [strip.available[name] for name in division.sources],
                "results": [strip.completes[name] for name in division.results],
            }
            for strip in division.strips
        ],
    }


def _executed(graph: OptimizedGraph) -> dict[str, Any]:
    """What the enclave needs to know of the graph; see `sectum.enclave.streaming.matching.ExecutedGraph`."""
    made = {
        name: (position, number)
        for position, op in enumerate(graph.operators)
        for number, name in enumerate(op.outputs)
        if name
    }
    inputs = set(graph.inputs)

    def read(name: str) -> Any:
        return made.get(name, name if name in inputs else None)

    def output(name: str) -> tuple[str, Sequence[int]]:
        return (graph.tensors[name].dtype, graph.tensors[name].shape) if name else ("float32", ())

    return {
        "names": [op.name for op in graph.operators],
        "types": [op.qualified_type for op in graph.operators],
        "reads": [[read(name) for name in op.inputs] for op in graph.operators],
        "outputs": [[output(name) for name in op.outputs] for op in graph.operators],
        "packed": [packed_inputs(op, graph) for op in graph.operators],
    }
