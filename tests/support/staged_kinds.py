"""Runs networks of every kind stage by stage and as they are, in this process: ``python staged_kinds.py KIND...``.

Prints a line of JSON for each: which of the outputs are equal, and what was opened.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import onnxruntime

from kinds_of_models import build
from places import LIGHT
from plans import divided, evenly
from sectum import zoo
from sectum.enclave.runners.child import _inputs
from sectum.enclave.streaming.session import StagedSession, Streams
from sectum.graph import read
from sectum.measure.input_ranges import input_ranges
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.plan.running import prepared_streams, streams_of

ARENA_BYTES = 256 << 20


def source(name: str) -> bytes | Path:
    """A network of the zoo, a relative of a family, one that the onnx package brings, or one of a kind."""
    if name.startswith("zoo:"):
        return zoo.to_bytes(zoo.build(name[4:], resolution=64), batch=1)
    if name.startswith("family:"):
        return zoo.to_bytes(zoo.sample_program(name[7:], random.Random(3)), batch=1)
    return LIGHT / name if name.endswith(".onnx") else build(name)


def run(name: str) -> dict[str, object]:
    """Run one network both ways."""
    model = read(source(name))
    graph = optimize(model.graph, Cpu.here())
    stages, found = {"evenly": evenly(graph, 4), "divided": divided(graph)}, {}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    plain = onnxruntime.InferenceSession(model.bound_bytes(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in plain.get_outputs()]
    feeds = _inputs(plain, 0, input_ranges(model.graph))
    others = _inputs(plain, 1, input_ranges(model.graph))
    expected = plain.run(names, feeds)
    with prepared_streams(model.bound_bytes(), graph, stages["evenly"], 1, 0) as written:
        for how, cut in stages.items():
            for buffers in (1, 3):
                streams = streams_of(written, cut, buffers, ARENA_BYTES)
                session = StagedSession(Streams.of(json.loads(json.dumps(streams))), 1)
                runs = [session.run(names, feeds) for _ in range(3)]
                session.run(names, others)  # must not change what was given out
                found[f"{how} {buffers}"] = all(
                    a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
                    for outputs in runs
                    for a, b in zip(expected, outputs, strict=True)
                )
    return {"name": name, "equal": found, "opened_bytes": session.opened_bytes, "stages": len(stages["divided"])}


if __name__ == "__main__":
    for kind in sys.argv[1:]:
        print(json.dumps(run(kind)), flush=True)
