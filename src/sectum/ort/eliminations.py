"""Eliminations: operators that change nothing, and operators that repeat what another one does."""

from __future__ import annotations

from collections.abc import Callable

from sectum.ort.workgraph import Node, WorkGraph


def _same_type(work: WorkGraph, node: Node) -> bool:
    source, result = work.tensors[node.inputs[0]], work.tensors[node.outputs[0]]
    return source.dtype == result.dtype and source.shape == result.shape


def _eliminate(work: WorkGraph, node: Node) -> None:
    if work.weight(node.inputs[0]) is None:
        work.bypass(node, node.inputs[0])


def _eliminate_dropout(work: WorkGraph, node: Node) -> None:
    if not any(work.uses(mask) for mask in node.outputs[1:]):
        _eliminate(work, node)


def _eliminate_unchanged(work: WorkGraph, node: Node) -> None:
    if _same_type(work, node):
        _eliminate(work, node)


def _eliminate_slice(work: WorkGraph, node: Node) -> None:
    steps = work.weight(node.inputs[4]) if len(node.inputs) > 4 else None
    forward = len(node.inputs) <= 4 or (
        steps is not None and steps.value is not None and bool((steps.value > 0).all())  # type: ignore[operator]
    )
    if forward and _same_type(work, node):
        _eliminate(work, node)


ELIMINATIONS: dict[str, Callable[[WorkGraph, Node], None]] = {
    "Identity": _eliminate,
    "Dropout": _eliminate_dropout,
    "Cast": _eliminate_unchanged,
    "Slice": _eliminate_slice,
    "Expand": _eliminate_unchanged,
}


def relu_before_clip(work: WorkGraph, node: Node) -> None:
    """Relu then Clip is one Clip, whose lower bound becomes at least 0."""
    clip = work.sole_consumer(node)
    if clip is not None and clip.type == "Clip" and clip.inputs[0] == node.outputs[0]:
        work.bypass(node, node.inputs[0], into=clip)


def product_with_reciprocal(work: WorkGraph, node: Node) -> None:
    """``x * (1 / y)`` is ``x / y``."""
    one = work.weight(node.inputs[0])
    product = work.sole_consumer(node)
    if one is None or one.value is None or one.elements != 1 or one.value.ravel()[0] != 1:
        return
    if product is None or product.type != "Mul" or product.domain:
        return
    other = product.inputs[1] if product.inputs[0] == node.outputs[0] else product.inputs[0]
    divisor = node.inputs[1]
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
