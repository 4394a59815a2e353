"""Networks by name, and random relatives of them: as data, as ONNX models, as PyTorch modules, and as graphs.

Importing this package loads neither onnx nor numpy nor torch: what needs them is loaded at its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sectum.zoo.architecture import Architecture
from sectum.zoo.catalogue import (
    families,
    names,
    network,
    program_families,
    program_names,
    sample,
)
from sectum.zoo.digests import structure, topology
from sectum.zoo.program import Program, Writer

if TYPE_CHECKING:
    from sectum.zoo.graph_emitter import to_graph
    from sectum.zoo.onnx_emitter import to_bytes, to_onnx, write
    from sectum.zoo.torch_emitter import to_torch

__all__ = [
    "Architecture",
    "Program",
    "Writer",
    "families",
    "names",
    "network",
    "program_families",
    "program_names",
    "sample",
    "structure",
    "to_bytes",
    "to_graph",
    "to_onnx",
    "to_torch",
    "topology",
    "write",
]

_LAZY = {
    "to_graph": "sectum.zoo.graph_emitter",
    "to_bytes": "sectum.zoo.onnx_emitter",
    "to_onnx": "sectum.zoo.onnx_emitter",
    "to_torch": "sectum.zoo.torch_emitter",
    "write": "sectum.zoo.onnx_emitter",
}


def __getattr__(name: str) -> Any:
    """Load an emitter at its first use."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
