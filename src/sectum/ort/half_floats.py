"""Half floats: few kernels of the CPU know them, so that the runtime widens almost all of such a network to 32 bits.

Learned from onnxruntime/core/optimizer/insert_cast_transformer.cc, and from which operators the runtime casts around.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from sectum.graph.ir import AttributeValue, TensorKind
from sectum.ort.workgraph import Node, WorkGraph

HALF, FULL = "float16", "float32"

_WITH_KERNEL = frozenset(
    {
        "Cast", "Clip", "Concat", "DequantizeLinear", "Expand", "Flatten", "Gather", "GatherElements", "GatherND",
        "Identity", "LayerNormalization", "Max", "Min", "QuantizeLinear", "Reshape", "ScatterElements", "ScatterND",
        "Shape", "SimplifiedLayerNormalization", "Size", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
        "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze", "GroupQueryAttention", "MatMulNBits", "RotaryEmbedding",
        "MultiHeadAttention",
    }
)  # fmt: skip
_SOFTMAX_IS_A_FUNCTION = 13


def widen_half_floats(work: WorkGraph) -> frozenset[str]:
    """Let operators without a kernel for half floats work on 32 bits, with a Cast where the two kinds meet.

    Returns:
        the types of operator that were added.
    """
    if HALF not in {tensor.dtype for tensor in work.tensors.values()}:
        return frozenset()
    for node in tuple(work.nodes):
        if node.type in ("Softmax", "LogSoftmax") and _has_half(work, node) and work.opset >= _SOFTMAX_IS_A_FUNCTION:
            _expand_softmax(work, node)
    _Widening(work).run()
    return frozenset({"Cast", "ReduceMax", "Sub", "Exp", "ReduceSum", "Div", "Log"})


def _has_half(work: WorkGraph, node: Node) -> bool:
    return not node.dead and any(name and work.tensors[name].dtype == HALF for name in (*node.inputs, *node.outputs))


def _expand_softmax(work: WorkGraph, node: Node) -> None:
    """A function of ONNX without a kernel for its type is replaced by its body."""
    (source,), (result,) = node.inputs, node.outputs
    tensor = work.tensors[result]
    axis = node.attributes.get("axis", -1)
    assert isinstance(axis, int)
    shape = list(tensor.shape)
    shape[axis] = 1
    logarithm = node.type == "LogSoftmax"
    work.remove(node)

    def add(kind: str, *inputs: str, kept: bool = True, made: str = "") -> str:
        attributes: Mapping[str, AttributeValue] = {} if kept else {"axes": (axis,), "keepdims": 1}
        made = made or work.new_tensor(result, tensor.shape if kept else tuple(shape), tensor)
        work.add(kind, list(inputs), [made], attributes, name=node.name, sources=node.sources if made == result else ())
        return made

    shifted = add("Sub", source, add("ReduceMax", source, kept=False))
    total = add("ReduceSum", add("Exp", shifted), kept=False)
    if logarithm:
        logs = work.new_tensor(result, tuple(shape), tensor)
        work.add("Log", [total], [logs], name=node.name)
        add("Sub", shifted, logs, made=result)
    else:
        add("Div", work.producer[total].inputs[0], total, made=result)


class _Widening:
    def __init__(self, work: WorkGraph) -> None:
        self._work = work
        self._wide: dict[str, str] = {}  # of half floats: the same in 32 bits
        self._made_wide: list[str] = []
        self._shared = {name for name, readers in work.consumers.items() if len(readers) > 1}
        self._widened = {id(node) for node in work.nodes if _has_half(work, node) and node.type not in _WITH_KERNEL}
        self._widened |= {id(node) for node in work.nodes if _has_half(work, node) and self._isolated(node)}

    def run(self) -> None:
        work = self._work
        original = [node for node in work.nodes if not node.dead]
        for node in original:
            if id(node) in self._widened:
                self._widen_outputs(node)
        for node in original:
            if node.type == "Cast" and not node.dead and node.inputs[0] in self._wide:
                work.set_input(node, 0, self._wide[node.inputs[0]])
            if id(node) in self._widened:
                for slot, name in enumerate(node.inputs):
                    if name and work.tensors[name].dtype == HALF:
                        work.set_input(node, slot, self._wide_input(name))
        for name in self._made_wide:
            if work.uses(name):
                work.add("Cast", [self._wide[name]], [name])
        for node in original:
            if node.type == "Cast" and not node.dead and node.outputs[0] not in work.output_set:
                if not work.uses(node.outputs[0]):
                    work.remove(node)
                elif work.tensors[node.inputs[0]].dtype == work.tensors[node.outputs[0]].dtype:
                    work.bypass(node, node.inputs[0])

    def _isolated(self, node: Node) -> bool:
        """Whether a node with a kernel lies between nodes without one: it then joins them."""
        work = self._work
        makers = [work.producer[name] for name in node.inputs if name in work.producer]
        readers = [reader for name in node.outputs for reader in work.consumers.get(name, ())]
        if node.type == "Cast" or not makers or any(name in work.output_set for name in node.outputs):
            return False
        return bool(readers) and all(id(other) in self._widened for other in (*makers, *readers))

    def _widen_outputs(self, node: Node) -> None:
        work = self._work
        for position, name in enumerate(node.outputs):
            if name and work.tensors[name].dtype == HALF:
                tensor = work.tensors[name]
                wide = self._wide[name] = work.new_tensor(name, tensor.shape, replace(tensor, dtype=FULL))
                node.outputs = [*node.outputs[:position], wide, *node.outputs[position + 1 :]]
                self._made_wide.append(name)
                work.producer.pop(name, None)
                work.producer[wide] = node

    def _wide_input(self, name: str) -> str:
        work = self._work
        found = self._wide.get(name)
        if found is not None:
            return found
        tensor = work.tensors[name]
        before = work.producer.get(name)
        weight = work.weight(name) is not None
        if weight and name in self._shared:  # the runtime widens in advance only what one operator reads
            found = work.new_tensor(name, tensor.shape, replace(tensor, dtype=FULL, kind=TensorKind.ACTIVATION))
            work.add("Cast", [name], [found])
        elif weight and tensor.value is not None:
            found = work.new_constant(name, tensor.value.astype(np.float32))
        elif before is not None and before.type == "Cast" and work.tensors[before.inputs[0]].dtype == FULL:
            found = before.inputs[0]
        else:
            found = work.new_tensor(name, tensor.shape, replace(tensor, dtype=FULL))
            if not weight:
                work.add("Cast", [name], [found])
        self._wide[name] = found
        return found
