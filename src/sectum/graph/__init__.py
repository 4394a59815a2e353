"""Reading networks: ONNX files and PyTorch modules to operators, shapes and weights."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sectum.graph.ir import Graph, Operator, Tensor, TensorKind
    from sectum.graph.limits import Limits
    from sectum.graph.parsed_model import Model, ParsedModel
    from sectum.graph.reader import parse, read
    from sectum.graph.torch_reader import from_torch

__all__ = ["Graph", "Limits", "Model", "Operator", "ParsedModel", "Tensor", "TensorKind", "from_torch", "parse", "read"]

_HOMES = {
    "Graph": "ir", "Operator": "ir", "Tensor": "ir", "TensorKind": "ir", "Limits": "limits", "Model": "parsed_model",
    "ParsedModel": "parsed_model", "parse": "reader", "read": "reader", "from_torch": "torch_reader",
}  # fmt: skip


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
