"""Fusions of GELU in its tanh form, and of a bias into GELU and into products with weights of 4 bits."""

from __future__ import annotations

from sectum.ort.fusions import MICROSOFT, scalar
from sectum.ort.workgraph import Node, WorkGraph, other_input


def fast_gelu(work: WorkGraph, power: Node) -> None:
    """``0.5 x (1 + tanh(a (x + b x ** 3)))``, written with Pow, is one operator."""
    source = power.inputs[0]
    if not scalar(work, power, source):
        return
    chain = work.chain(power, ("Mul", "Add", "Mul", "Tanh", "Add", "Mul"))
    if chain is None:
        return
    cube, total, scaled, tanh, shifted, result = chain[1:]
    if source not in total.inputs or not all(
        scalar(work, node, before.outputs[0]) for node, before in ((cube, power), (scaled, total), (shifted, tanh))
    ):
        return
    half = work.producer.get(other_input(result, shifted.outputs[0]))
    if half is None or half.type != "Mul" or not scalar(work, half, source) or work.sole_consumer(half) is not result:
        return
    work.replace([half, *chain], "FastGelu", [source], result.outputs, {}, MICROSOFT)


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
    work.replace((after, add), kind, inputs, after.outputs, {}, MICROSOFT)


def block_product_bias(work: WorkGraph, node: Node) -> None:
    """A product with weights in blocks takes in the sum with a row after it."""
    add = work.sole_consumer(node)
    if node.domain != MICROSOFT or (len(node.inputs) > 5 and node.inputs[5]) or add is None or add.type != "Add":
        return
    bias = other_input(add, node.outputs[0])
    if work.tensors[bias].shape != (node.attributes.get("N"),):
        return
    work.take_output(node, add)
    work.set_input(node, 5, bias)
