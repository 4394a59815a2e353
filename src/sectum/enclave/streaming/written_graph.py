"""The graph that ONNX Runtime executes, as the runtime writes it: its structure, with the weights in a file beside it.

``python -m sectum.enclave.streaming.written_graph MODEL STRUCTURE WEIGHTS`` writes it, in a process of its own, because
a model may crash the runtime. The three are open files, by their descriptors. The model's owner does this before the
enclave starts; see docs/adr/0011.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto

_OPEN_FILES = "/proc/self/fd"
_LEAST_IR_VERSION = 4
"""The first in which weights need not be inputs."""
_INLINE_BYTES = 1024
"""Smaller weights stay in the structure."""


def write(model: int, structure: int, weights: int) -> None:
    """Have the runtime optimize a model and write what it executes; all files are open ones, by their descriptors."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.optimized_model_filepath = f"{_OPEN_FILES}/{structure}"
    # The runtime takes this for a name beside the structure.
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", str(weights))
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_min_size_in_bytes", str(_INLINE_BYTES)
    )
    onnxruntime.InferenceSession(f"{_OPEN_FILES}/{model}", options, providers=["CPUExecutionProvider"])


class WrittenGraph:
    """A written graph. Weights are read from the file when they are asked for.

    Args:
        structure: file of its structure.
        weights: file of its weights; None if it has no large ones.
    """

    def __init__(self, structure: Path, weights: Path | None) -> None:
        with structure.open("rb") as file:
            self._model = onnx.load(file, load_external_data=False)
        self._weights: memoryview | None = None
        if weights is not None and weights.stat().st_size:
            with weights.open("rb") as file:
                self._weights = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        self._initializers = {tensor.name: tensor for tensor in self.graph.initializer}

    @property
    def graph(self) -> GraphProto:
        """Its structure."""
        return self._model.graph

    @property
    def inputs(self) -> list[ValueInfoProto]:
        """Its inputs, without weights: old files list those, too."""
        return [value for value in self.graph.input if value.name not in self._initializers]

    @property
    def opset(self) -> int:
        """Version of ONNX's own operators."""
        return max((one.version for one in self._model.opset_import if one.domain in ("", "ai.onnx")), default=1)

    @property
    def nodes(self) -> list[NodeProto]:
        """Its operators, in the runtime's order."""
        return list(self.graph.node)

    def is_weight(self, name: str) -> bool:
        """Whether a tensor is known before the first inference."""
        return name in self._initializers

    def weight(self, name: str) -> TensorProto:
        """A weight with its values inside."""
        tensor = self._initializers[name]
        made = onnx.TensorProto()
        made.CopyFrom(tensor)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            del made.external_data[:]
            made.ClearField("data_location")
            made.raw_data = bytes(self._stored(tensor))
        return made

    def values(self, name: str) -> NDArray[np.generic]:
        """The values of a weight, where they lie in the file: outside of the enclave, and not copied."""
        tensor = self._initializers[name]
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            return values_of(tensor)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return np.frombuffer(self._stored(tensor), dtype).reshape(tuple(tensor.dims))

    def _stored(self, tensor: TensorProto) -> memoryview:
        if self._weights is None:
            raise ValueError(f"the file of weights is missing, and '{tensor.name}' lies in it")
        entries = {entry.key: entry.value for entry in tensor.external_data}
        start, size = int(entries.get("offset", 0)), int(entries["length"])
        return self._weights[start : start + size]

    def model_of(self, graph: GraphProto) -> bytes:
        """Serialise a part of the graph as a model of its own, with the same operator sets."""
        model = onnx.ModelProto()
        model.ir_version = max(self._model.ir_version, _LEAST_IR_VERSION)
        model.opset_import.extend(self._model.opset_import)
        model.functions.extend(self._model.functions)
        model.graph.CopyFrom(graph)
        content: bytes = model.SerializeToString()
        return content


def names_read(node: NodeProto) -> Iterator[str]:
    """Names of the tensors that an operator reads, those of its inner graphs included."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            made = {tensor.name for tensor in inner.initializer} | {value.name for value in inner.input}
            for one in inner.node:
                yield from (name for name in names_read(one) if name not in made)
                made.update(one.output)
            yield from (value.name for value in inner.output if value.name not in made)


def values_of(tensor: TensorProto) -> NDArray[np.generic]:
    """The values of a weight."""
    return np.asarray(onnx.numpy_helper.to_array(tensor), order="C")  # keeps the shape of a single value


if __name__ == "__main__":
    write(*map(int, sys.argv[1:]))
