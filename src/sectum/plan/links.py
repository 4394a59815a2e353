"""Links between enclaves: what crosses, and what it takes to seal, transfer and open it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sectum.enclave.runners.relay import Pace
from sectum.ort.optimized import OptimizedGraph
from sectum.plan.opening import DEFAULT, MEASURED
from sectum.predict.predictor import Predictor
from sectum.units import MIB

GBIT = 1e9
DEFAULT_LINK = Pace(bits_per_s=10 * GBIT, delay_ms=0.1)
_DEFAULT_SEAL_MS_PER_MIB, _DEFAULT_OPEN_MS_PER_MIB = 0.12, 0.19
"""CPU time of one virtual core of an AMD EPYC (Zen 4), beside other work."""
_MESSAGE_MS = 0.1
"""Beside its bytes, to seal or to open a message: measured on the same machine."""
_BYTES, _TIMES = 16 * MIB, 5


@dataclass(frozen=True, slots=True)
class LinkCosts:
    """What enclaves spend on a link, beside waiting for it.

    Attributes:
        seal_ms_per_mib: to seal a MiB with one thread.
        open_ms_per_mib: to open a MiB with one thread, with the copy into the enclave.
        message_ms: to seal or to open a message, beside its bytes.
        kind: ``"measured"`` on this machine, or ``"default"``.
    """

    seal_ms_per_mib: float = _DEFAULT_SEAL_MS_PER_MIB
    open_ms_per_mib: float = _DEFAULT_OPEN_MS_PER_MIB
    message_ms: float = _MESSAGE_MS
    kind: str = DEFAULT

    def seal_ms(self, n_bytes: float) -> float:
        """To seal a message of so many bytes."""
        return self.message_ms + n_bytes / MIB * self.seal_ms_per_mib

    def open_ms(self, n_bytes: float) -> float:
        """To open a message of so many bytes."""
        return self.message_ms + n_bytes / MIB * self.open_ms_per_mib


def measured_link_costs() -> LinkCosts:
    """Measure how long this machine takes to seal and open messages."""
    import os
    import socket
    import threading

    from sectum.enclave.streaming.sealed_link import DIGEST_BYTES, KEY_BYTES, LinkEnd, LinkReceiver, LinkSender

    key, digest = os.urandom(KEY_BYTES), bytes(DIGEST_BYTES)
    here, there = socket.socketpair()
    sender, receiver = (LinkSender(LinkEnd(here.detach(), key, digest, 0)),
                        LinkReceiver(LinkEnd(there.detach(), key, digest, 0)))  # fmt: skip
    plain = np.zeros(_BYTES, np.uint8)
    sealing, opening = [], []
    try:
        for _ in range(_TIMES):
            start = time.thread_time()
            sender.seal([(plain, plain.dtype, plain.shape)])
            sealing.append(time.thread_time() - start)
            sending = threading.Thread(target=sender.send)
            sending.start()
            receiver.receive()
            sending.join()
            start = time.thread_time()
            receiver.open(1)
            opening.append(time.thread_time() - start)
    finally:
        sender.close()
        receiver.close()
    mib = _BYTES / MIB
    return LinkCosts(1e3 * min(sealing) / mib, 1e3 * min(opening) / mib, kind=MEASURED)


def link_costs_for(predictor: Predictor) -> LinkCosts:
    """The costs that go with a predictor: measured where this machine was calibrated.

    Without a calibration its predictions are of the machine that the default costs are of.
    """
    return LinkCosts() if predictor.calibration is None else measured_link_costs()


def crossing_bytes(graph: OptimizedGraph) -> NDArray[np.float64]:
    """Bytes of what operators before each one have made and it or later ones read, shape ``(operators,)``.

    Inputs of the network count from the start, its outputs to the end.
    """
    times, n_bytes = graph.lifetimes, graph.n_bytes
    change = np.zeros(len(graph.operators) + 2)
    for name, last in times.end.items():
        first = times.written.get(name, -1) + 1
        if first <= last:
            change[first] += n_bytes[name]
            change[last + 1] -= n_bytes[name]
    return np.cumsum(change)[: len(graph.operators)]


def names_before(graph: OptimizedGraph, position: int) -> tuple[str, ...]:
    """Names of what operators before this position have made and it or later ones read."""
    times = graph.lifetimes
    return tuple(name for name, last in times.end.items() if times.written.get(name, -1) < position <= last)
