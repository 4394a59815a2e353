"""An owner's ONNX model as a network to train. Importing this loads PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sectum.errors import ModelError
from sectum.graph.onnx_format import Parser, RawNode
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.worker.accelerators.pytorch.network import nothing
from sectum.hetee.worker.accelerators.pytorch.onnx_operators import OPERATORS, Value
from sectum.hetee.worker.models import LIMITS

_STATISTICS = 3, 4  # inputs of a BatchNormalization: they follow the data, they are not trained
_NORMALISATION = "BatchNormalization"


class OnnxNetwork:
    """Computes the operators of a model one after the other.

    All float32 initialisers are trained but the statistics of batch normalisation, which follow the batches.

    Args:
        content: the ONNX file.
        device: where it computes, as PyTorch names it.

    Raises:
        WorkRefused: ``MODEL_REFUSED``, an operator cannot be trained here.
    """

    def __init__(self, content: bytes, device: str = "cpu") -> None:
        self.watch: Callable[[], None] = nothing
        try:
            graph = Parser(content, LIMITS).model().graph
            self._constants: dict[str, torch.Tensor] = {}
            stored = {tensor.name: tensor.array(content) for tensor in graph.initialisers}
            for node in graph.nodes:
                if node.op_type == "Constant" and "value" in node.tensors:
                    array = node.tensors["value"].array(content)
                    if array is not None:
                        self._constants[node.outputs[0]] = torch.from_numpy(array).to(device)
        except ModelError as error:
            raise refusal(Refusal.MODEL_REFUSED, str(error)[:500]) from None
        self._nodes = [node for node in graph.nodes if node.outputs and node.outputs[0] not in self._constants]
        unknown = sorted({node.op_type for node in self._nodes if node.domain or node.op_type not in OPERATORS})
        if unknown:
            raise _refuse(
                f"it has the operator {unknown[0][:80]}; these can be trained: {', '.join(sorted(OPERATORS))}"
            )
        statistics = {node.inputs[at] for node in self._nodes if node.op_type == _NORMALISATION for at in _STATISTICS}
        self.parameters: dict[str, torch.Tensor] = {}
        self.buffers: dict[str, torch.Tensor] = {}
        for name, array in stored.items():
            if array is None:
                raise _refuse(f"the initialiser '{name[:80]}' has a type that cannot be trained")
            tensor = torch.from_numpy(array).to(device)
            if name in statistics:
                if tensor.dtype is not torch.float32:
                    raise _refuse(f"the statistics '{name[:80]}' are no float32 numbers")
                self.buffers[name] = tensor
            elif tensor.dtype is torch.float32 and tensor.ndim:
                self.parameters[name] = tensor
            else:
                self._constants[name] = tensor
        if not self.parameters:
            raise _refuse("it has no float32 weights")
        (self._input,) = (name for name, _ in graph.inputs if name not in stored)
        self._output = graph.outputs[0][0]
        self._last = {name: index for index, node in enumerate(self._nodes) for name in node.inputs}

    def scores(self, pictures: torch.Tensor, *, training: bool) -> torch.Tensor:
        """The model's first output for a batch of inputs."""
        values: dict[str, Value] = {**self._constants, **self.buffers, **self.parameters, self._input: pictures}
        for index, node in enumerate(self._nodes):
            self.watch()
            values.update(zip(node.outputs, _computed(node, values, training=training), strict=False))
            for name in node.inputs:  # what nothing reads any more
                if self._last[name] == index and name != self._output:
                    values.pop(name, None)
        found = values[self._output]
        assert found is not None
        if found.ndim != 2 or found.dtype is not torch.float32:
            raise _refuse(
                f"its first output has {found.ndim} dimensions of {found.dtype}; expected 2 of float32: scores"
            )
        return found


def _computed(node: RawNode, values: dict[str, Value], *, training: bool) -> tuple[torch.Tensor, ...]:
    inputs = [values[name] if name else None for name in node.inputs]
    attributes: dict[str, Any] = dict(node.attributes)
    return OPERATORS[node.op_type](inputs, attributes, training)


def _refuse(why: str) -> HeteeError:
    return refusal(Refusal.MODEL_REFUSED, f"the ONNX model cannot be trained: {why}")
