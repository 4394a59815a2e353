"""Eliminations: operators that change nothing, and operators that repeat what another one does."""

from __future__ import annotations

from collections.abc import Callable

from sectum.ort.workgraph import Node, WorkGraph, constant_integers, ints, other_input

_OPEN_END = 2**63 - 1


def _same_type(work: WorkGraph, node: Node) -> bool:
    source, result = work.tensors[node.inputs[0]], work.tensors[node.outputs[0]]
    return source.dtype == result.dtype and source.shape == result.shape


def _eliminate(work: WorkGraph, node: Node, slot: int = 0) -> None:
    """Remove an operator that gives its input ``slot``; only an Identity goes where the caller wants its result."""
    if work.weight(node.inputs[slot]) is None and (node.type == "Identity" or node.outputs[0] not in work.output_set):
        work.bypass(node, node.inputs[slot])


def _eliminate_dropout(work: WorkGraph, node: Node) -> None:
    if not any(work.uses(mask) for mask in node.outputs[1:]):
        _eliminate(work, node)


def _eliminate_unchanged(work: WorkGraph, node: Node) -> None:
    if _same_type(work, node):
        _eliminate(work, node)


def _eliminate_slice(work: WorkGraph, node: Node) -> None:
    """Only where it is written to reach from 0 to the largest number: the runtime does not look at the shape."""
    if work.opset < 10:
        starts, ends = (ints(node.attributes.get(name)) for name in ("starts", "ends"))
        steps: tuple[int, ...] = ()
    else:
        starts, ends = (constant_integers(work, node, slot) or () for slot in (1, 2))
        steps = constant_integers(work, node, 4) or ()
        if len(node.inputs) > 4 and node.inputs[4] and not steps:
            return
    if starts and not any(starts) and all(end == _OPEN_END for end in ends) and all(step == 1 for step in steps):
        _eliminate_unchanged(work, node)


def _eliminate_neutral(work: WorkGraph, node: Node) -> None:
    """A sum with 0, a difference from it, a product with 1 or a division by it."""
    neutral = 0 if node.type in ("Add", "Sub") else 1
    slots = (1, 0) if node.type in ("Add", "Mul") else (1,)
    for slot in slots:
        operand = work.weight(node.inputs[slot])
        if operand is None or operand.value is None or operand.elements != 1:
            continue
        other = work.tensors[node.inputs[1 - slot]]
        if operand.value.ravel()[0] == neutral and len(other.shape) >= len(operand.shape):
            _eliminate(work, node, 1 - slot)
            return


ELIMINATIONS: dict[str, Callable[[WorkGraph, Node], None]] = {
    "Identity": lambda work, node: _eliminate(work, node),
    "Dropout": _eliminate_dropout,
    "Cast": _eliminate_unchanged,
    "Slice": _eliminate_slice,
    "Expand": _eliminate_unchanged,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _eliminate_neutral),
}


def relu_before_clip(work: WorkGraph, node: Node) -> None:
    """Relu then Clip is one Clip, whose lower bound becomes at least 0."""
    clip = work.sole_consumer(node)
    if clip is not None and clip.type == "Clip" and clip.inputs[0] == node.outputs[0]:
        work.bypass(node, node.inputs[0], into=clip)


def not_before_where(work: WorkGraph, node: Node) -> None:
    """A Not that only Where reads goes: they choose the other way round."""
    result = node.outputs[0]
    readers = work.consumers.get(result, ())
    if result in work.output_set or not readers:
        return
    if any(reader.type != "Where" or reader.domain or result in reader.inputs[1:] for reader in readers):
        return
    for reader in tuple(readers):
        condition, if_true, if_false = reader.inputs
        for slot, name in enumerate((condition, if_false, if_true)):
            work.set_input(reader, slot, name)
    work.bypass(node, node.inputs[0], into=readers[0])


def product_with_reciprocal(work: WorkGraph, node: Node) -> None:
    """``x * (1 / y)`` is ``x / y``."""
    one = work.weight(node.inputs[0])
    product = work.sole_consumer(node)
    if one is None or one.value is None or one.elements != 1 or one.value.ravel()[0] != 1:
        return
    if product is None or product.type != "Mul" or product.domain:
        return
    other, divisor = other_input(product, node.outputs[0]), node.inputs[1]
    work.take_output(node, product)
    work.set_input(node, 0, other)
    work.set_input(node, 1, divisor)


def merge_equal(work: WorkGraph) -> None:
    """Common subexpression elimination: equal operators on equal inputs become one."""
    first_by_key: dict[tuple[str, tuple[str, ...]], list[Node]] = {}
    for node in work.nodes:
        if node.dead or node.attributes.get("seed") is not None or not node.inputs:
            continue
        candidates = first_by_key.setdefault((node.type, tuple(node.inputs)), [])
        for first in candidates:
            if (
                first.domain == node.domain
                and len(first.outputs) == len(node.outputs)
                and first.attributes == node.attributes
                and not any(item in work.output_set for item in node.outputs)
            ):
                for mine, kept in zip(tuple(node.outputs), first.outputs, strict=True):
                    for reader in tuple(work.consumers.get(mine, ())):
                        for slot, item in enumerate(reader.inputs):
                            if item == mine:
                                work.set_input(reader, slot, kept)
                first.sources |= node.sources
                work.remove(node)
                break
        else:
            candidates.append(node)
