"""Fusions into FusedMatMul, and of a sum with the normalisation after it."""

from __future__ import annotations

import itertools

from sectum.graph.ir import AttributeValue
from sectum.ort.fusions import MICROSOFT, scalar
from sectum.ort.workgraph import Node, WorkGraph, ints, other_input, sources_of


def transposed_product(work: WorkGraph, node: Node) -> None:
    """A product reads transposed operands as they were, if their last two axes or the first one have moved."""
    ranks = [len(work.tensors[name].shape) for name in node.inputs[:2]]
    if min(ranks) < 2:
        return
    transposed: dict[int, Node] = {}
    flags: dict[str, AttributeValue] = {}
    for slot, name in enumerate(node.inputs[:2]):
        before = work.producer.get(name)
        found = None
        if before is not None and before.type == "Transpose" and name not in work.output_set:
            found = _absorbed(ints(before.attributes.get("perm")))
        of_last, of_batch = (f"trans{'AB'[slot]}", f"transBatch{'AB'[slot]}")
        mine = node.attributes.get(of_last, 0), node.attributes.get(of_batch, 0)
        if before is None or found is None or mine[1] or (found[1] and ranks[0] != ranks[1]):
            found = False, False
        else:
            transposed[slot] = before
        flags |= {of_last: int(found[0] != bool(mine[0])), of_batch: int(found[1] or bool(mine[1]))}
    if not transposed:
        return
    inputs = [transposed[slot].inputs[0] if slot in transposed else name for slot, name in enumerate(node.inputs)]
    sources = sources_of(node)
    outputs = node.outputs
    work.remove(node)
    for before in dict.fromkeys(transposed.values()):
        if not work.uses(before.outputs[0]):
            sources |= before.sources
            work.remove(before)
    if not any(flag for name, flag in flags.items() if "Batch" in name):
        flags = {name: flag for name, flag in flags.items() if "Batch" not in name}
    work.add("FusedMatMul", inputs, outputs, {"alpha": 1.0, **flags}, MICROSOFT, node.name, sources)


def _absorbed(perm: tuple[int, ...]) -> tuple[bool, bool] | None:
    """Whether a permutation swaps the last two axes, and whether it moves the first one behind the batch's.

    None if it does something else.
    """
    rank = len(perm)
    if rank < 2 or rank - 1 not in perm[-2:]:
        return None
    batch = perm[:-2]
    if batch and (batch[0] not in (0, 1) or any(b != a + 1 for a, b in itertools.pairwise(batch))):
        return None
    return perm[-2] == rank - 1, bool(batch) and batch[0] == 1


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
    attributes: dict[str, AttributeValue] = {"transA": 0, "transB": 0, **node.attributes, "alpha": 1.0}
    work.replace((*removed, node), "FusedMatMul", inputs, outputs, attributes, MICROSOFT, node.name)


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
            inputs[slot] = other_input(before, row)
            bias = row
            removed.append(before)
            break
    inputs += [*node.inputs[1:], *[""] * (3 - len(node.inputs)), *([bias] if bias else [])]
    work.replace((node, *removed), "SkipLayerNormalization", inputs, node.outputs[:1], {}, MICROSOFT, node.name)
