"""Checks a model before ONNX Runtime loads it: size limits, no external data, inputs and outputs that can be sent."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import get_args

from sectum.errors import ModelError
from sectum.graph.limits import Limits
from sectum.graph.onnx_format import Parser, RawGraph, RawValueInfo
from sectum.graph.raw_tensor import DTYPES
from sectum.hetee.data_plane.messages import BatchOpening, Dtype, Loaded, Slot
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.wire.kinds import MESSAGE_BYTES, STREAM_BYTES, TAG_BYTES
from sectum.hetee.wire.messages import encode

# The size of the file is limited by the stream, and what the runtime allocates by the worker's memory limit.
LIMITS = Limits()
_TRAVELLING = frozenset(get_args(Dtype)) - {"bfloat16"}  # NumPy and the runtime's Python have no bfloat16
_NAME_CHARACTERS, _RANK, _SLOTS = 256, 8, 64
_SYMBOL_CHARACTERS = 64, 8  # the second if the names do not fit into a message otherwise


@dataclass(frozen=True)
class ModelLimits:
    """What the models of a session may take together.

    Attributes:
        count: largest number of models.
        total_bytes: largest total size of their files.
    """

    count: int = 32
    total_bytes: int = STREAM_BYTES

    def refusal(self, count: int, total_bytes: int, n_bytes: int) -> HeteeError | None:
        """Why a model of ``n_bytes`` may not be added to ``count`` models of ``total_bytes``; None if it may."""
        if count >= self.count:
            why = f"{count} models are loaded, the limit of a session: unload one first"
        elif total_bytes + n_bytes > self.total_bytes:
            why = f"a model of {n_bytes} bytes beside {total_bytes} bytes of models, the limit of a session is "
            why += f"{self.total_bytes} bytes: unload a model first, or send a smaller one"
        else:
            return None
        return refusal(Refusal.MODEL_REFUSED, why)


DEFAULT_LIMITS = ModelLimits()


@dataclass(frozen=True)
class CheckedModel:
    """An ONNX model that passed the limits.

    Attributes:
        content: the ONNX file.
        sha256: SHA-256 of ``content``, 32 bytes.
        inputs: inputs that a batch must give; a dimension is a number, a name, ``#`` and a number in place of a long
            name, or ``?``.
        outputs: outputs that a batch can ask for; a shape of ``...`` is unknown.
    """

    content: bytes
    sha256: bytes
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]

    def takes(self, message: BatchOpening) -> tuple[tuple[Slot, ...], tuple[str, ...]]:
        """The inputs that a batch must give, and the outputs that it gets.

        Raises:
            WorkRefused: ``INPUT_REFUSED``, the batch asks for what this model does not do.
        """
        if message.work:
            raise batch_refused("the batch trains, but what it names is not a training job")
        known, wanted = tuple(slot.name for slot in self.outputs), message.outputs
        if not set(wanted) <= set(known) or len(set(wanted)) != len(wanted):
            raise batch_refused("the batch asks for an output that does not exist, or for one twice")
        return self.inputs, wanted or known

    def __repr__(self) -> str:
        return f"Model({self.sha256.hex()[:16]}, {len(self.content)} bytes)"


def batch_refused(why: str) -> HeteeError:
    """The refusal of a batch that does not fit."""
    return refusal(Refusal.INPUT_REFUSED, why)


def inspect(content: bytes, limits: Limits = LIMITS) -> CheckedModel:
    """Parse an untrusted model without running any part of it.

    Raises:
        WorkRefused: ``MODEL_REFUSED``, it is malformed, too large, or refers to other files.
    """
    try:
        parser = Parser(content, limits)
        graph = parser.model().graph
        _refuse_external(graph)
        initialised = {tensor.name for tensor in graph.initialisers}
        inputs = [parser.value_info(span) for name, span in graph.inputs if name not in initialised]
        outputs = [parser.value_info(span) for _, span in graph.outputs]
    except ModelError as error:
        raise refusal(Refusal.MODEL_REFUSED, str(error)[:500]) from None
    if max(len(inputs), len(outputs)) > _SLOTS or not outputs:
        raise refusal(
            Refusal.MODEL_REFUSED,
            f"{len(inputs)} inputs, {len(outputs)} outputs; expected at most {_SLOTS} of each and at least one output",
        )
    described = _slots(inputs, outputs)
    return CheckedModel(content, hashlib.sha256(content).digest(), *described)


def _refuse_external(graph: RawGraph) -> None:
    tensors = [*graph.initialisers, *(tensor for node in graph.nodes for tensor in node.tensors.values())]
    for tensor in tensors:
        if tensor.external is not None:
            raise refusal(
                Refusal.MODEL_REFUSED,
                f"tensor '{tensor.name[:80]}' is stored in another file: save the model as one file",
            )
    for node in graph.nodes:
        for inner in node.graphs.values():
            _refuse_external(inner)


def _slots(inputs: list[RawValueInfo], outputs: list[RawValueInfo]) -> tuple[tuple[Slot, ...], tuple[Slot, ...]]:
    """Inputs and outputs as they are sent, with the names of dimensions as long as LOADED has room for."""
    for longest in _SYMBOL_CHARACTERS:
        symbols = _Symbols(longest)
        found = tuple(_slot(info, symbols) for info in inputs), tuple(_slot(info, symbols) for info in outputs)
        loaded = Loaded(sha256=bytes(32), inputs=found[0], outputs=found[1], load_us=1 << 62)
        if len(encode(loaded)) <= MESSAGE_BYTES - TAG_BYTES:
            return found
    raise refusal(Refusal.MODEL_REFUSED, f"the names of inputs and outputs take more than {MESSAGE_BYTES} bytes")


def _slot(info: RawValueInfo, symbols: _Symbols) -> Slot:
    dtype = DTYPES.get(info.elem_type)
    if dtype not in _TRAVELLING:
        raise refusal(Refusal.MODEL_REFUSED, f"'{info.name[:80]}' is not a tensor of a type that can be sent")
    if len(info.shape or ()) > _RANK or len(info.name) > _NAME_CHARACTERS:
        raise refusal(Refusal.MODEL_REFUSED, f"'{info.name[:80]}' has more than {_RANK} dimensions or too long a name")
    dimensions = ("...",) if info.shape is None else tuple(map(symbols.dimension, info.shape))
    return Slot(name=info.name, dtype=dtype, shape=dimensions)  # type: ignore[arg-type]  # in _TRAVELLING


class _Symbols:
    """Names of dimensions. One that is longer than ``longest``, such as a formula, becomes a number: ``#1``, ``#2``."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._numbers: dict[str, str] = {}

    def dimension(self, size: int | str | None) -> int | str:
        """A dimension as it is sent: equal names are equal numbers."""
        if isinstance(size, str):
            if len(size) <= self._longest:
                return size
            return self._numbers.setdefault(size, f"#{len(self._numbers) + 1}")
        # Some exporters write -1 for a dimension of any size.
        return "?" if size is None or not 0 <= size <= 2 << 30 else size
