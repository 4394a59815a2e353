"""Runs a written network in a chain of enclaves, all in this process: are the outputs equal, and how much crosses."""

from __future__ import annotations

import json
import os
import socket
import threading
from typing import Any

from chains import chained_streams
from sectum.enclave.streaming.chained import ChainedSession, Place
from sectum.enclave.streaming.sealed_link import KEY_BYTES
from sectum.ort.optimized import OptimizedGraph

ENCLAVES = 4


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


def run_chained(
    written: dict[str, Any],
    graph: OptimizedGraph,
    names: list[str],
    feeds: dict[str, Any],
    *,
    by_channels: bool,
    arena_bytes: int,
) -> tuple[list[ChainedSession], list[list[Any]]]:
    """A chain, cut evenly or by channels, and the outputs of two inferences, which lie in its enclaves' memory."""
    streams = chained_streams(written, graph, ENCLAVES, arena_bytes=arena_bytes, by_channels=by_channels)
    enclaves = chained(streams)
    return enclaves, [run_once(enclaves, names, feeds) for _ in range(2)]
