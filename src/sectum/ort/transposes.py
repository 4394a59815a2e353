"""ONNX Runtime's transpose optimiser: transposes move behind other operators, where they meet and cancel.

Learned from onnxruntime/core/optimizer/transpose_optimization. A transpose moves behind an operator where fewer axes
are transposed then; axes of size 1 do not count.
"""

from __future__ import annotations

from sectum.ort.quantized_moves import DEQUANTIZE, QUANTIZE, insert_pair
from sectum.ort.transpose_rules import LEAVES_NO_TRANSPOSE, Axes, handle, perm_of, slots_of
from sectum.ort.workgraph import Node, WorkGraph

# max_num_graph_transformation_steps, the runtime's own limit.
_ROUNDS = 10
# What EstimateValueRank says of a tensor whose shape the runtime does not know.
_AXES_OF_UNKNOWN_SHAPE = 5


def optimise_transposes(work: WorkGraph, *, placed: bool = False) -> None:
    """Move transposes where that saves some, and cancel those that meet.

    Args:
        work: the graph.
        placed: whether operators have their kernels already, as at level 3, so that some have a form for other layouts.
    """
    for _ in range(_ROUNDS):
        if not _round(work, placed=placed):
            return


def _round(work: WorkGraph, *, placed: bool) -> bool:
    order = work.execution_order()
    towards = _towards_transposes(work, order)
    changed = False
    for node in order:
        if node.dead:
            continue
        for slot, name in enumerate(node.inputs):
            before = work.producer.get(name) if name else None
            if before is None or before.type != "Transpose" or before.domain:
                continue
            if _process(work, node, slot, before, towards, placed=placed):
                changed = True
                break
    if any(node.type == DEQUANTIZE for node in order):
        for node in work.execution_order():
            if not node.dead:
                changed |= _repair(work, node)
    return changed


def _towards_transposes(work: WorkGraph, order: list[Node]) -> set[str]:
    """Names of tensors from which operators that transposes move behind lead to a transpose."""
    towards: set[str] = set()
    for node in reversed(order):
        if node.type == "Transpose":
            towards.add(node.inputs[0])
        elif node.type not in LEAVES_NO_TRANSPOSE and not towards.isdisjoint(node.outputs):
            towards.update(node.inputs[slot] for slot in slots_of(work, node) or ())
    return towards


def _process(work: WorkGraph, node: Node, slot: int, before: Node, towards: set[str], *, placed: bool) -> bool:
    """Let ``node`` read what was not transposed yet, if that is allowed and saves something."""
    slots = slots_of(work, node)
    perm = perm_of(work, before)
    if slots is None or slot not in slots or not perm:
        return False
    dtype = work.tensors[node.inputs[0]].dtype if node.inputs[0] else ""
    resized = node.type == "Resize" and dtype in ("int8", "uint8") and node.attributes.get("mode") == "linear"
    forced = node.type == "Transpose" or (placed and (node.type == "MaxPool" or resized))
    if not forced and _cost(work, node, perm, slots, towards) >= 0:
        return False
    return handle(work, node, before, perm, slots, placed=placed, towards=node.outputs[0] in towards)


def _cost(work: WorkGraph, node: Node, perm: Axes, slots: tuple[int, ...], towards: set[str]) -> int:
    cost = sum(_input_cost(work, node.inputs[slot], perm) for slot in slots)
    if cost < 0 and node.type not in LEAVES_NO_TRANSPOSE and towards.isdisjoint(node.outputs):
        cost += max(_axes_over_one(work, name) for name in node.outputs if name)
    return cost


def _axes_over_one(work: WorkGraph, name: str) -> int:
    if name in work.shapeless:
        return _AXES_OF_UNKNOWN_SHAPE
    return sum(size != 1 for size in work.tensors[name].shape)


def _input_cost(work: WorkGraph, name: str, perm: Axes) -> int:
    if not name or work.weight(name) is not None:
        return 0
    producer = work.producer.get(name)
    if producer is not None and producer.type == DEQUANTIZE:
        if work.weight(producer.inputs[0]) is not None and len(work.consumers[name]) == 1:
            return 0
        before = work.producer.get(producer.inputs[0])
        if before is not None and before.type == "Squeeze":
            before = work.producer.get(before.inputs[0])
            producer = before if before is not None and before.type == "Transpose" else producer
        elif before is not None:
            producer = before
    if producer is not None and producer.type == "Transpose":
        result = producer.outputs[0]
        readers = work.consumers.get(result, ())
        removable = result not in work.output_set and all(slots_of(work, reader) is not None for reader in readers)
        return -_axes_over_one(work, name) if perm_of(work, producer) == perm and removable else 0
    return _axes_over_one(work, name)


def _repair(work: WorkGraph, node: Node) -> bool:
    """Make operators between DequantizeLinear and QuantizeLinear again of what transposes have torn apart."""
    if node.type == QUANTIZE:
        return _drop_empty_pair(work, node)
    if node.type != "Transpose":
        return False
    source, result = node.inputs[0], node.outputs[0]
    before, readers = work.producer.get(source), work.consumers.get(result, ())
    if before is not None and before.type == DEQUANTIZE:
        if len(readers) > 1 or (readers and readers[0].type == QUANTIZE) or work.uses(source) != 1:
            return False
        insert_pair(work, before, node, result, list(readers))
        return True
    after = work.sole_consumer(node)
    if before is None or after is None or after.type != QUANTIZE or work.uses(source) != 1:
        return False
    insert_pair(work, after, None, source, [node])
    return True


def _drop_empty_pair(work: WorkGraph, node: Node) -> bool:
    """A QuantizeLinear right behind a DequantizeLinear with the same scale undoes it."""
    before = work.producer.get(node.inputs[0])
    if before is None or before.type != DEQUANTIZE or work.sole_consumer(before) is not node:
        return False
    if before.inputs[1:] != node.inputs[1:]:
        return False
    source, result = before.inputs[0], node.outputs[0]
    if result in work.output_set and (source not in work.producer or work.uses(source) != 1):
        return False
    work.remove(node)
    work.remove(before)
    if result in work.output_set:
        maker = work.producer.pop(source)
        maker.outputs = [result if item == source else item for item in maker.outputs]
        work.producer[result] = maker
        return True
    for reader in tuple(work.consumers[result]):
        for slot, item in enumerate(reader.inputs):
            if item == result:
                work.set_input(reader, slot, source)
    return True
