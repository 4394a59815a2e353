"""Runs networks of every kind stage by stage and as they are, in this process: ``python staged_kinds.py KIND...``.

Prints a line of JSON for each: which of the outputs are equal, what was opened, and for each plan the bytes of the
arena that were in use in the steady state and those that the layout says. And for some plans with weights as int8: by
how much outputs are off, as a share of the largest value, whether they are the same each time, and the bytes that were
opened over those without int8. And of a chain of enclaves: whether its outputs are equal, and the bytes that crossed.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from chained_kinds import run_chained
from kinds_of_models import build
from places import LIGHT
from plans import by_rows, divided, evenly
from sectum import zoo
from sectum.enclave.runners.child import _inputs
from sectum.enclave.streaming.session import StagedSession, Streams
from sectum.graph import read
from sectum.measure.input_ranges import input_ranges
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.ort.optimized import OptimizedGraph
from sectum.plan.layout import lay_out
from sectum.plan.order import in_order, least_peak_order
from sectum.plan.running import prepared_streams, streams_of
from sectum.plan.stages import PlannedStage

ARENA_BYTES = 256 << 20
BUFFERS = (1, 3)
"""A plan is run with one of them; the next plan, and the next network, with the other."""
WITH_ALL_BUFFERS = ("light_squeezenet.onnx",)
"""Networks whose plans are all run with both."""
LARGE = ("zoo:densenet121", "light_inception_v1.onnx")
"""Of them only plans with few stages: the others, and chains that are divided by channels, have hundreds of stages of
operators that other networks have too."""
FEW_STAGES = ("evenly", "7 rows of 30", "reordered", "reordered, 5 rows of 20")
WITH_INT8 = ("evenly", "divided", "3 rows of 8")
"""Plans that are also run with weights as int8."""


def source(name: str) -> bytes | Path:
    """A network of the zoo, a relative of a family, one that the onnx package brings, or one of a kind."""
    if name.startswith("zoo:"):
        return zoo.to_bytes(zoo.network(name[4:], resolution=64), batch=1)
    if name.startswith("family:"):
        return zoo.to_bytes(zoo.sample(name[7:], random.Random(3)), batch=1)
    return LIGHT / name if name.endswith(".onnx") else build(name)


def _ways(graph: OptimizedGraph) -> Iterator[tuple[str, OptimizedGraph, list[PlannedStage]]]:
    """Plans that no planner would make: what each is called, the graph in its order, and the stages."""
    yield "evenly", graph, evenly(graph, 4)
    yield "divided", graph, divided(graph)
    for rows, longest in ((3, 8), (7, 30), (1, 2)):
        yield f"{rows} rows of {longest}", graph, by_rows(graph, rows, longest)
    order = least_peak_order(graph)
    if order != sorted(order):
        other = in_order(graph, order)
        yield "reordered", other, evenly(other, 4)
        yield "reordered, 5 rows of 20", other, by_rows(other, 5, 20)


def _equal(expected: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]]) -> bool:
    """Whether outputs are the same, bit for bit."""
    return all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(expected, found, strict=True)
    )


def _off(expected: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]]) -> float:
    """By how much outputs differ, as a share of the largest value."""
    return max(
        (
            float(np.abs(a.astype(float) - b.astype(float)).max() / max(1e-30, np.abs(a.astype(float)).max()))
            for a, b in zip(expected, found, strict=True)
            if a.size and a.shape == b.shape  # how many boxes a detector finds depends on its weights
        ),
        default=0.0,
    )


def run(name: str, place: int = 0) -> dict[str, object]:
    """Run one network both ways; its place among others decides which of its plans have which buffers."""
    model = read(source(name))
    graph = optimize(model.graph, Cpu.here())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    plain = onnxruntime.InferenceSession(model.bound_bytes(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in plain.get_outputs()]
    feeds = _inputs(plain, 0, input_ranges(model.graph))
    others = _inputs(plain, 1, input_ranges(model.graph))
    expected = plain.run(names, feeds)
    equal: dict[str, bool] = {}
    arena: dict[str, tuple[int, int]] = {}
    int8: dict[str, tuple[float, bool, float]] = {}
    stages = strips = opened_bytes = 0
    with prepared_streams(model.bound_bytes(), graph, evenly(graph, 4), 1, 0) as written:
        for number, (how, ordered, cut) in enumerate(_ways(graph), place):
            if how.endswith(tuple("0123456789")) and not any(stage.division for stage in cut):
                continue
            if name in LARGE and how not in FEW_STAGES:
                continue
            for buffers in BUFFERS if name in WITH_ALL_BUFFERS else (BUFFERS[number % 2],):
                streams = streams_of(written, ordered, cut, buffers, ARENA_BYTES)
                session = StagedSession(Streams.of(json.loads(json.dumps(streams))), 1)
                same = [_equal(expected, session.run(names, feeds))]
                session.describe()  # what follows is the steady state
                same.append(_equal(expected, session.run(names, feeds)))
                planned = lay_out(ordered, cut, buffers, 1).arena_bytes
                arena[f"{how} {buffers}"] = session.describe()["arena_bytes"], planned
                given = session.run(names, feeds)
                session.run(names, others)  # must not change what was given out
                equal[f"{how} {buffers}"] = all(same) and _equal(expected, given)
                del given
            opened_bytes = session.opened_bytes
            if how in WITH_INT8:
                narrow = [replace(stage, int8=stage.streamed) for stage in cut]
                session = StagedSession(Streams.of(streams_of(written, ordered, narrow, 1, ARENA_BYTES)), 1)
                first, second = (session.run(names, feeds) for _ in range(2))
                share = session.opened_bytes / max(1, opened_bytes)
                int8[how] = _off(expected, first), _equal(first, second), share
                del first, second  # they lie in the arena that the next plan uses
            stages = max(stages, len(cut))
            strips += sum(len(stage.division.strips) for stage in cut if stage.division)
        chained: dict[str, bool] = {}
        for by_channels in (False,) if name in LARGE else (False, True):
            enclaves, runs = run_chained(written, graph, names, feeds, by_channels=by_channels, arena_bytes=ARENA_BYTES)
            chained["divided" if by_channels else "evenly"] = all(_equal(expected, outputs) for outputs in runs)
            sent_bytes = sum(one.describe()["sent_bytes"] for one in enclaves)
            del runs  # they lie in the memory of the enclaves
    return {
        "name": name,
        "equal": equal,
        "arena": arena,
        "int8": int8,
        "opened_bytes": opened_bytes,
        "stages": stages,
        "strips": strips,
        "chained": chained,
        "sent_bytes": sent_bytes,
    }


if __name__ == "__main__":
    for place, kind in enumerate(sys.argv[1:]):
        print(json.dumps(run(kind, place)), flush=True)
