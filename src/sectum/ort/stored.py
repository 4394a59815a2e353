"""An optimized graph as one line of JSON: what a dataset keeps of a network, so that its file is not needed.

Names are left out, since nothing that a network costs depends on them, and the contents of large constants.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from sectum.errors import ModelMalformed
from sectum.graph.ir import AttributeValue, Dataflow, Operator, Tensor, TensorKind
from sectum.ort.cpu import Cpu
from sectum.ort.optimized import OptimizedGraph

_FORMAT = 1


def dumps(graph: OptimizedGraph) -> str:
    """Write a graph; equal graphs give equal text, whatever the names in them."""
    number = {name: index for index, name in enumerate(_order(graph))}
    number[""] = -1
    tensors = [_tensor(graph.tensors[name]) for name in number if name]
    operators = [
        [
            op.qualified_type,
            [number[name] for name in op.inputs],
            [number[name] for name in op.outputs],
            {key: value for key, value in sorted(op.attributes.items()) if not isinstance(value, bytes)},
        ]
        for op in graph.operators
    ]
    ends = [number[name] for name in graph.inputs], [number[name] for name in graph.outputs]
    return json.dumps([_FORMAT, graph.opset, *ends, tensors, operators], separators=(",", ":"))


def loads(text: str, cpu: Cpu) -> OptimizedGraph:
    """Read what `dumps` wrote; tensors and operators get new names, and the source operators are not known.

    Args:
        text: of a graph.
        cpu: that the graph was optimized for; `seen_cpu` finds it out for many graphs of one machine.

    Raises:
        ModelMalformed: it is something else.
    """
    try:
        form, opset, inputs, outputs, tensors, operators = json.loads(text)
        if form != _FORMAT:
            raise ModelMalformed(f"a stored graph of format {form}, and this version reads {_FORMAT}: update Sectum")
        made = [_restored(f"t{index}", *fields) for index, fields in enumerate(tensors)]
        names = dict(enumerate(tensor.name for tensor in made)) | {-1: ""}  # -1: an input left out
        return OptimizedGraph(
            name="",
            operators=tuple(
                Operator(
                    name=f"n{index}",
                    type=kind.rpartition(":")[2],
                    inputs=tuple(names[i] for i in sources),
                    outputs=tuple(names[i] for i in results),
                    attributes={key: _attribute(value) for key, value in attributes.items()},
                    domain=kind.rpartition(":")[0],
                )
                for index, (kind, sources, results, attributes) in enumerate(operators)
            ),
            tensors={tensor.name: tensor for tensor in made},
            inputs=tuple(names[i] for i in inputs),
            outputs=tuple(names[i] for i in outputs),
            opset=opset,
            cpu=cpu,
            carried_out=((),) * len(operators),
            layer_names=tuple(f"n{index}" for index in range(len(operators))),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelMalformed(f"not a stored graph ({error!r}): the dataset that it came from is damaged") from error


def seen_cpu(texts: Iterable[str]) -> Cpu:
    """The kind of CPU that stored graphs of one machine were optimized for: the channels of their convolutions tell."""
    channels = 0
    for text in texts:
        graph = loads(text, Cpu.SSE)  # its channels are the same, whatever CPU is assumed
        for op in graph.operators:
            if op.qualified_type == "com.microsoft.nchwc:Conv":
                channels = math.gcd(channels, graph.tensors[op.outputs[0]].shape[1])
        if channels and channels < Cpu.AVX512.nchwc_block:
            break
    blocks = [cpu.nchwc_block for cpu in Cpu if channels and channels % cpu.nchwc_block == 0]
    return Cpu.of_block(max(blocks, default=Cpu.SSE.nchwc_block))


def _order(graph: Dataflow) -> list[str]:
    """Tensors that count, each once, in the order of their first use."""
    order = dict.fromkeys(graph.inputs)
    for op in graph.operators:
        order.update(dict.fromkeys(name for name in (*op.inputs, *op.outputs) if name))
    order.update(dict.fromkeys(graph.outputs))
    return list(order)


def _tensor(tensor: Tensor) -> list[Any]:
    fields: list[Any] = [list(tensor.shape), tensor.dtype, tensor.kind.value]
    if tensor.value is not None:
        fields.append(tensor.value.ravel().tolist())
    return fields


def _restored(name: str, shape: list[int], dtype: str, kind: str, value: list[Any] | None = None) -> Tensor:
    content = None if value is None else np.array(value, dtype=dtype).reshape(shape)
    return Tensor(name, tuple(shape), dtype, TensorKind(kind), content)


def _attribute(value: Any) -> AttributeValue:
    restored: AttributeValue = tuple(value) if isinstance(value, list) else value
    return restored
