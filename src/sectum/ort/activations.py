"""Fusions of GELU in its tanh form, and of a bias into GELU and into products with weights of 4 bits."""

from __future__ import annotations

from sectum.ort.fusions import MICROSOFT, scalar
from sectum.ort.workgraph import Node, WorkGraph, sources_of


def fast_gelu(work: WorkGraph, power: Node) -> None:
    """``0.5 x (1 + tanh(a (x + b x ** 3)))``, written with Pow, is one operator."""
    source = power.inputs[0]
    if not scalar(work, power, source):
        return
    chain = [power]
    for kind in ("Mul", "Add", "Mul", "Tanh", "Add", "Mul"):
        after = work.sole_consumer(chain[-1])
        if after is None or after.type != kind or after.domain:
            return
        chain.append(after)
    cube, total, scaled, tanh, shifted, result = chain[1:]
    if source not in total.inputs or not all(
        scalar(work, node, before.outputs[0]) for node, before in ((cube, power), (scaled, total), (shifted, tanh))
    ):
        return
    other = result.inputs[1] if result.inputs[0] == shifted.outputs[0] else result.inputs[0]
    half = work.producer.get(other)
    if half is None or half.type != "Mul" or not scalar(work, half, source) or work.sole_consumer(half) is not result:
        return
    removed = [half, *chain]
    outputs = result.outputs
    for node in removed:
        work.remove(node)
    work.add("FastGelu", [source], outputs, {}, MICROSOFT, sources=sources_of(*removed))


def bias_gelu(work: WorkGraph, add: Node) -> None:
    """GELU takes in the sum with a row before it."""
    after = work.sole_consumer(add)
    if after is None or after.domain != MICROSOFT or after.type not in ("Gelu", "FastGelu") or len(after.inputs) > 1:
        return
    shapes = [work.tensors[name].shape for name in add.inputs]
    row = next((slot for slot, shape in enumerate(shapes) if len(shape) == 1), None)
    if row is None or not all(shapes) or shapes[0][-1] != shapes[1][-1]:
        return
    inputs = [add.inputs[1 - row], add.inputs[row]]
    kind = "BiasGelu" if after.type == "Gelu" else "FastGelu"
    outputs = after.outputs
    work.remove(after)
    work.remove(add)
    work.add(kind, inputs, outputs, {}, MICROSOFT, sources=sources_of(add, after))


def block_product_bias(work: WorkGraph, node: Node) -> None:
    """A product with weights in blocks takes in the sum with a row after it."""
    add = work.sole_consumer(node)
    if node.domain != MICROSOFT or (len(node.inputs) > 5 and node.inputs[5]) or add is None or add.type != "Add":
        return
    bias = add.inputs[1] if add.inputs[0] == node.outputs[0] else add.inputs[0]
    if work.tensors[bias].shape != (node.attributes.get("N"),):
        return
    work.take_output(node, add)
    work.set_input(node, 5, bias)
