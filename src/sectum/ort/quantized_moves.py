"""QuantizeLinear and DequantizeLinear move along operators that only move data, so that more works on integers.

Learned from onnxruntime/core/optimizer/qdq_transformer/qdq_propagation.cc. Nothing really moves: pairs are inserted
behind, or in front of, each such operator, and the operator between two pairs has a form on integers.
"""

from __future__ import annotations

from dataclasses import replace

from sectum.graph.ir import TensorKind
from sectum.ort.workgraph import Node, WorkGraph

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
_PASSING = frozenset({"MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice"})


def dequantize_later(work: WorkGraph, node: Node) -> None:
    """Insert pairs behind the operators that only move what a DequantizeLinear makes."""
    if not _scalar(work, node):
        return
    waiting = [work.sole_consumer(node)]
    while waiting:
        mover = waiting.pop()
        if mover is None or not _passes(mover):
            continue
        result = mover.outputs[0]
        if result in work.output_set and work.uses(result) > 1:
            continue
        readers = [reader for reader in work.consumers.get(result, ()) if reader.type != QUANTIZE]
        if not readers and result not in work.output_set:
            continue
        waiting += insert_pair(work, node, mover, result, readers)


def quantize_earlier(work: WorkGraph, node: Node) -> None:
    """Insert pairs in front of the operators that only move what a QuantizeLinear reads."""
    if not _scalar(work, node):
        return
    mover = work.producer.get(node.inputs[0])
    if mover is None or work.sole_consumer(mover) is not node:
        return
    while mover is not None and _passes(mover):
        source = mover.inputs[0]
        before = work.producer.get(source)
        if before is not None and (before.type == DEQUANTIZE or work.sole_consumer(before) is not mover):
            return
        insert_pair(work, node, None, source, [mover])
        mover = before


def dequantize_for_each(work: WorkGraph, node: Node) -> None:
    """Each reader gets a DequantizeLinear of its own. The parts of one source operator are one reader."""
    result = node.outputs[0]
    groups: dict[tuple[int, ...], list[Node]] = {}
    for reader in work.consumers.get(result, ()):
        groups.setdefault(tuple(sorted(reader.sources)) or (-1 - reader.index,), []).append(reader)
    for readers in list(groups.values())[0 if result in work.output_set else 1 :]:
        made = work.new_tensor(result, work.tensors[result].shape, work.tensors[result])
        work.add(DEQUANTIZE, list(node.inputs), [made], node.attributes, sources=node.sources)
        for reader in dict.fromkeys(readers):
            for slot, name in enumerate(reader.inputs):
                if name == result:
                    work.set_input(reader, slot, made)


def quantize_weights(work: WorkGraph, node: Node) -> None:
    """A product between DequantizeLinear and QuantizeLinear gets a weight and a bias of integers."""
    before = work.producer.get(node.inputs[0])
    if before is None or before.type != DEQUANTIZE or not _scalar(work, before):
        return
    after = work.sole_consumer(node)
    while after is not None and after.type in ("Relu", "Clip"):
        after = work.sole_consumer(after)
    if after is None or after.type != QUANTIZE:
        return
    for slot, dtype in ((1, "int8"), (2, "int32")):
        weight = work.weight(node.inputs[slot]) if len(node.inputs) > slot else None
        if weight is None or weight.dtype != "float32":
            return
        integers, scale, zero, floats = (
            work.new_tensor(weight.name, shape, replace(weight, dtype=kind, value=None))
            for shape, kind in ((weight.shape, dtype), ((), "float32"), ((), dtype), (weight.shape, "float32"))
        )
        work.tensors[floats] = replace(work.tensors[floats], kind=TensorKind.ACTIVATION)
        work.add(DEQUANTIZE, [integers, scale, zero], [floats], sources=node.sources)
        work.set_input(node, slot, floats)


def _passes(node: Node) -> bool:
    return node.type in _PASSING and not node.domain


def _scalar(work: WorkGraph, node: Node) -> bool:
    """Whether the scale and the zero point are constant numbers."""
    constants = [work.weight(name) for name in node.inputs[1:3]]
    return len(constants) == 2 and all(tensor is not None and tensor.elements == 1 for tensor in constants)


def insert_pair(work: WorkGraph, like: Node, maker: Node | None, name: str, readers: list[Node]) -> list[Node]:
    """Put a pair with the scale of ``like`` between a tensor and its readers; returns the readers."""
    tensor = work.tensors[name]
    scale, zero = like.inputs[1:3]
    source = name
    if maker is not None:
        source = work.new_tensor(name, tensor.shape, tensor)
        work.producer.pop(name)
        maker.outputs[0] = source
        work.producer[source] = maker
        for reader in work.consumers.get(name, ()):
            if reader.type == QUANTIZE:
                work.set_input(reader, 0, source)
    integers = work.new_tensor(name, tensor.shape, replace(tensor, dtype=work.tensors[zero].dtype))
    work.add(QUANTIZE, [source, scale, zero], [integers])
    if name in work.output_set and maker is not None:
        work.add(DEQUANTIZE, [integers, scale, zero], [name])
    for reader in readers:
        floats = work.new_tensor(name, tensor.shape, tensor)
        work.add(DEQUANTIZE, [integers, scale, zero], [floats])
        for slot, item in enumerate(reader.inputs):
            if item == name:
                work.set_input(reader, slot, floats)
    return readers
