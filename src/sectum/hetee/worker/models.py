"""A model before the runtime sees it: bounded, self-contained, and with inputs and outputs that can travel."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import get_args

from sectum.errors import ModelError
from sectum.graph.limits import Limits
from sectum.graph.onnx_format import Parser, RawGraph, RawValueInfo
from sectum.graph.raw_tensor import DTYPES
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire.messages import Dtype, Slot

# An opened model may fill a stream; what it makes of that is bounded by the worker's memory limit.
LIMITS = Limits()
_TRAVELLING = frozenset(get_args(Dtype)) - {"bfloat16"}  # NumPy and the runtime's Python have no bfloat16
_NAME_CHARACTERS, _RANK, _SLOTS = 256, 8, 64


@dataclass(frozen=True)
class Model:
    """An ONNX model that passed the limits.

    Attributes:
        content: the file's bytes.
        sha256: of them, 32 bytes.
        inputs: those that a batch has to give; a dimension is a number, a name, or ``?``.
        outputs: those that it can ask for; a shape of ``...`` is not known.
    """

    content: bytes
    sha256: bytes
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]

    def __repr__(self) -> str:
        return f"Model({self.sha256.hex()[:16]}, {len(self.content)} bytes)"


def inspect(content: bytes, limits: Limits = LIMITS) -> Model:
    """Parse a model that need not be trusted, without running anything of it.

    Raises:
        WorkRefused: ``MODEL_REFUSED``, it is malformed, too large, or not complete in itself.
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
        raise refusal(Refusal.MODEL_REFUSED, f"{len(inputs)} inputs, {len(outputs)} outputs; 1 to {_SLOTS} can travel")
    return Model(content, hashlib.sha256(content).digest(), _slots(inputs), _slots(outputs))


def _refuse_external(graph: RawGraph) -> None:
    tensors = [*graph.initialisers, *(tensor for node in graph.nodes for tensor in node.tensors.values())]
    for tensor in tensors:
        if tensor.external is not None:
            raise refusal(
                Refusal.MODEL_REFUSED,
                f"tensor '{tensor.name[:80]}' lies in another file, and a worker has no files: save the model as one",
            )
    for node in graph.nodes:
        for inner in node.graphs.values():
            _refuse_external(inner)


def _slots(infos: list[RawValueInfo]) -> tuple[Slot, ...]:
    return tuple(_slot(info) for info in infos)


def _slot(info: RawValueInfo) -> Slot:
    dtype = DTYPES.get(info.elem_type)
    if dtype not in _TRAVELLING:
        raise refusal(Refusal.MODEL_REFUSED, f"'{info.name[:80]}' is no tensor of a type that can travel")
    dimensions = ("...",) if info.shape is None else tuple("?" if d is None else _dimension(d) for d in info.shape)
    texts = [info.name, *(d for d in dimensions if isinstance(d, str))]
    if len(dimensions) > _RANK or max(map(len, texts)) > _NAME_CHARACTERS:
        raise refusal(Refusal.MODEL_REFUSED, f"'{info.name[:80]}' has over {_RANK} dimensions or an overlong name")
    return Slot(name=info.name, dtype=dtype, shape=dimensions)  # type: ignore[arg-type]  # in _TRAVELLING


def _dimension(size: int | str) -> int | str:
    # Some exporters write -1 for an open dimension.
    return "?" if isinstance(size, int) and not 0 <= size <= 2 << 30 else size
