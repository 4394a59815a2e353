"""Fusions into FusedMatMul, and of a sum with the normalisation after it."""

from __future__ import annotations

from sectum.graph.ir import AttributeValue
from sectum.ort.fusions import MICROSOFT, scalar
from sectum.ort.workgraph import Node, WorkGraph, ints, sources_of

_PRODUCTS = ("MatMul", "FusedMatMul")
_FLAGS = ("transA", "transB")


def transposed_product(work: WorkGraph, node: Node) -> None:
    """A MatMul reads operands whose last two axes a Transpose has swapped without the Transpose."""
    transposed: dict[int, Node] = {}
    for slot, name in enumerate(node.inputs[:2]):
        before = work.producer.get(name)
        if before is None or before.type != "Transpose" or name in work.output_set:
            continue
        rank = len(work.tensors[name].shape)
        if rank >= 2 and ints(before.attributes.get("perm")) == (*range(rank - 2), rank - 1, rank - 2):
            transposed[slot] = before
    if not transposed or min(len(work.tensors[name].shape) for name in node.inputs[:2]) < 2:
        return
    inputs = [transposed[slot].inputs[0] if slot in transposed else name for slot, name in enumerate(node.inputs)]
    swapped: dict[str, AttributeValue] = {
        flag: int((slot in transposed) != bool(node.attributes.get(flag, 0))) for slot, flag in enumerate(_FLAGS)
    }
    sources = sources_of(node)
    outputs = node.outputs
    work.remove(node)
    for before in dict.fromkeys(transposed.values()):
        if not work.uses(before.outputs[0]):
            sources |= before.sources
            work.remove(before)
    work.add("FusedMatMul", inputs, outputs, {"alpha": 1.0, **swapped}, MICROSOFT, node.name, sources)


def scaled_product(work: WorkGraph, node: Node) -> None:
    """A MatMul takes in the constant that one of its operands, or its result, is multiplied with or divided by."""
    inputs, removed = list(node.inputs), []
    for slot, name in enumerate(inputs):
        scale = work.producer.get(name)
        if scale is not None and work.sole_consumer(scale) is node and (source := _scaled(work, scale)):
            inputs[slot] = source
            removed.append(scale)
    outputs = node.outputs
    after = work.sole_consumer(node)
    if after is not None and _scaled(work, after) == outputs[0]:
        outputs = after.outputs
        removed.append(after)
    if not removed or work.tensors[outputs[0]].dtype != "float32":
        return
    for other in (*removed, node):
        work.remove(other)
    attributes: dict[str, AttributeValue] = {"transA": 0, "transB": 0, **node.attributes, "alpha": 1.0}
    work.add("FusedMatMul", inputs, outputs, attributes, MICROSOFT, node.name, sources_of(node, *removed))


def _scaled(work: WorkGraph, node: Node) -> str:
    """What a node multiplies with a constant number, or divides by one; empty if it does neither."""
    if node.type not in ("Mul", "Div") or node.domain or len(node.inputs) != 2:
        return ""
    slots = (0, 1) if node.type == "Mul" else (0,)
    return next((node.inputs[slot] for slot in slots if scalar(work, node, node.inputs[slot])), "")


def skip_layer_norm(work: WorkGraph, node: Node) -> None:
    """A LayerNormalization takes in the sum before it, and the sum with a constant row before that."""
    add = work.producer.get(node.inputs[0])
    if add is None or add.type != "Add" or work.sole_consumer(add) is not node or len(node.inputs) < 2:
        return
    shapes = [work.tensors[name].shape for name in add.inputs]
    width = shapes[0][-1] if shapes[0] else 0
    if shapes[0] != shapes[1] or len(shapes[0]) != 3 or work.tensors[node.inputs[1]].shape != (width,):
        return
    inputs, removed = list(add.inputs), [add]
    bias = ""
    for slot, name in enumerate(add.inputs):
        before = work.producer.get(name)
        if before is None or before.type != "Add" or work.sole_consumer(before) is not add:
            continue
        row = next((item for item in before.inputs if (w := work.weight(item)) and w.shape == (width,)), "")
        if row:
            inputs[slot] = before.inputs[1] if before.inputs[0] == row else before.inputs[0]
            bias = row
            removed.append(before)
            break
    inputs += [*node.inputs[1:], *[""] * (3 - len(node.inputs)), *([bias] if bias else [])]
    for other in (node, *removed):
        work.remove(other)
    work.add(
        "SkipLayerNormalization", inputs, node.outputs[:1], {}, MICROSOFT, node.name, sources_of(node, *removed)
    )  # fmt: skip
