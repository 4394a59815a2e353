"""An enclave of a chain: it receives values, runs its stages, and hands values on to the next enclave."""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sectum.enclave.streaming.element_types import NUMPY_TYPES
from sectum.enclave.streaming.sealed_link import LinkEnd, LinkReceiver, LinkSender
from sectum.enclave.streaming.session import StagedSession, Streams


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an enclave is in its chain.

    Attributes:
        number: of the enclave; its link to the next one has the same number.
        receive: descriptor of the link from the enclave before; None for the first.
        send: descriptor of the link to the next enclave; None for the last.
        receive_key: of that link.
        send_key: of that link.
    """

    number: int
    receive: int | None = None
    send: int | None = None
    receive_key: bytes = b""
    send_key: bytes = b""

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "number": self.number, "receive": self.receive, "send": self.send,
            "receive_key": self.receive_key.hex(), "send_key": self.send_key.hex(),
        }  # fmt: skip

    @staticmethod
    def of(data: Mapping[str, Any]) -> Place:
        """Read it from JSON types."""
        keys = {name: bytes.fromhex(data[name]) for name in ("receive_key", "send_key")}
        return Place(number=data["number"], receive=data["receive"], send=data["send"], **keys)


def plan_digest(streams: Mapping[str, Any]) -> bytes:
    """SHA-256 over what all enclaves of a chain were told: operators, stages, and which enclave runs which."""
    told = {name: streams[name] for name in ("executed", "stages", "bounds")}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).digest()


class ChainedSession:
    """Runs an enclave's stages. It answers like the runtime's own session.

    An inference is `receive`, `run`, `send`, so that waiting and transfer are not part of what is timed.

    Args:
        streams: JSON types of `Streams`, and ``bounds``, the first stage of each enclave.
        place: of this enclave.
        threads: that compute.

    Raises:
        ValueError: the plan does not fit this model or this runtime.
    """

    def __init__(self, streams: Mapping[str, Any], place: Place, threads: int) -> None:
        digest = plan_digest(streams)
        bounds = [*streams["bounds"], len(streams["stages"])]
        own = (bounds[place.number], bounds[place.number + 1])
        self._staged = StagedSession(Streams.of(streams), threads, own)
        self._source = self._sink = None
        if place.receive is not None:
            self._source = LinkReceiver(LinkEnd(place.receive, place.receive_key, digest, place.number - 1))
        if place.send is not None:
            self._sink = LinkSender(LinkEnd(place.send, place.send_key, digest, place.number))
        self._link_ns = np.zeros(2, np.int64)

    def get_inputs(self) -> list[Any]:
        """Of the network, in the first enclave."""
        return [] if self._source is not None else self._staged.get_inputs()

    def get_outputs(self) -> list[Any]:
        """Of the network, in the last enclave."""
        return [] if self._sink is not None else self._staged.get_outputs()

    def receive(self) -> None:
        """Wait for what the enclave before hands on."""
        if self._source is not None:
            self._source.receive()

    def run(self, names: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Open what was received, run the stages, and seal what is handed on.

        Args:
            names: of the outputs that are asked for: those of the network in the last enclave, else none.
            feeds: values of the network's inputs in the first enclave, else none.

        Raises:
            TamperedError: weights or a message were changed outside.
        """
        begin = time.perf_counter_ns()
        arrays: Mapping[str, NDArray[Any]] = feeds
        if self._source is not None:
            received = self._staged.receives
            arrays = dict(zip(received, self._source.open(len(received)), strict=True))
        values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(value) for name, value in arrays.items()}
        opened = time.perf_counter_ns()
        self._staged.run_stages(values)
        outputs = [] if self._sink is not None else self._staged.results(names, values)
        computed = time.perf_counter_ns()
        if self._sink is not None:
            self._sink.seal([_memory_of(values[name]) for name in self._staged.hands_on])
        self._link_ns += (opened - begin, time.perf_counter_ns() - computed)
        return outputs

    def send(self) -> None:
        """Hand on what was sealed."""
        if self._sink is not None:
            self._sink.send()

    def describe(self) -> dict[str, Any]:
        """What `StagedSession.describe` gives, and mean bytes and nanoseconds of the links."""
        staged = self._staged.describe()
        runs = max(1, staged["runs"])
        opening_ns, sealing_ns = (self._link_ns // runs).tolist()
        return {
            **staged,
            "received_bytes": 0 if self._source is None else self._source.total_bytes // runs,
            "sent_bytes": 0 if self._sink is None else self._sink.total_bytes // runs,
            "link_opening_ns": opening_ns,
            "link_sealing_ns": sealing_ns,
        }


def _memory_of(value: onnxruntime.OrtValue) -> tuple[NDArray[np.uint8], np.dtype[Any], list[int]]:
    """Memory, element type and shape of a value: sealed from where it lies, without a copy.

    Raises:
        ValueError: it is not a tensor of numbers.
    """
    kind = value.data_type()
    if kind not in NUMPY_TYPES:
        raise ValueError(f"a {kind} cannot cross to another enclave: plan with fewer enclaves")
    dtype, shape = np.dtype(NUMPY_TYPES[kind]), list(value.shape())
    n_bytes = math.prod(shape) * dtype.itemsize
    if not n_bytes:
        return np.empty(0, np.uint8), dtype, shape
    memory = (ctypes.c_uint8 * n_bytes).from_address(value.data_ptr())
    return np.frombuffer(memory, np.uint8), dtype, shape
