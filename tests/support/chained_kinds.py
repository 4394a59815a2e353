"""Runs networks of every kind in a chain and as they are, in this process: ``python chained_kinds.py KIND...``.

Prints a line of JSON for each: whether the outputs are equal, and the bytes that crossed.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from typing import Any

import onnxruntime

from chains import chained_streams
from plans import evenly
from sectum.enclave.runners.child import _inputs
from sectum.enclave.streaming.chained import ChainedSession, Place
from sectum.enclave.streaming.sealed_link import KEY_BYTES
from sectum.graph import read
from sectum.measure.input_ranges import input_ranges
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.plan.running import prepared_streams
from staged_kinds import ARENA_BYTES, source

ENCLAVES = 4
LARGE = ("zoo:densenet121", "zoo:googlenet", "light_inception_v1.onnx")
"""Cut evenly only: divided, each has hundreds of stages of operators that the others have too."""


def chained(streams: dict[str, Any]) -> list[ChainedSession]:
    """The enclaves of a chain, all in this process."""
    places = [{"number": number} for number in range(ENCLAVES)]
    for number in range(ENCLAVES - 1):
        sends, receives = socket.socketpair()
        key = os.urandom(KEY_BYTES)
        places[number] |= {"send": sends.detach(), "send_key": key}
        places[number + 1] |= {"receive": receives.detach(), "receive_key": key}
    made = []
    for own, place in zip(streams["enclaves"], places, strict=True):
        told = {name: value for name, value in streams.items() if name != "enclaves"} | own
        made.append(ChainedSession(json.loads(json.dumps(told)), Place(**place), 1))
    return made


def run_once(enclaves: list[ChainedSession], names: list[str], feeds: dict[str, Any]) -> list[Any]:
    """One inference through all of them."""
    outputs: list[Any] = []
    for place, one in enumerate(enclaves):
        one.receive()
        outputs = one.run(names, {} if place else feeds)
        sending = threading.Thread(target=one.send)  # a socket holds less than a message
        sending.start()
        if place + 1 == len(enclaves):
            sending.join()
    return outputs


def run(name: str) -> dict[str, object]:
    """Run one network both ways, cut evenly and divided by channels."""
    model = read(source(name))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    plain = onnxruntime.InferenceSession(model.bound_bytes(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in plain.get_outputs()]
    feeds = _inputs(plain, 0, input_ranges(model.graph))
    expected = plain.run(names, feeds)
    graph = optimize(model.graph, Cpu.here())
    found, crossed = {}, 0
    with prepared_streams(model.bound_bytes(), graph, evenly(graph, 1), 1, 0) as written:
        for by_channels in (False,) if name in LARGE else (False, True):
            streams = chained_streams(written, graph, ENCLAVES, arena_bytes=ARENA_BYTES, by_channels=by_channels)
            enclaves = chained(streams)
            runs = [run_once(enclaves, names, feeds) for _ in range(2)]
            found["divided" if by_channels else "evenly"] = all(
                a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
                for outputs in runs
                for a, b in zip(expected, outputs, strict=True)
            )
            crossed = sum(one.describe()["sent_bytes"] for one in enclaves)
    return {"name": name, "equal": found, "sent_bytes": crossed}


if __name__ == "__main__":
    for kind in sys.argv[1:]:
        print(json.dumps(run(kind)), flush=True)
