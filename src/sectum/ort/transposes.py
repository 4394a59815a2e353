"""ONNX Runtime's transpose optimiser: transposes move behind elementwise operators, where they meet and cancel.

Learned from onnxruntime/core/optimizer/transpose_optimization. Modelled for unary and binary elementwise operators;
the runtime also moves transposes through reductions, slices, concatenations and others.
"""

from __future__ import annotations

from sectum.ort.workgraph import Node, WorkGraph, ints

_UNARY = frozenset(
    {
        "Abs", "Cast", "Ceil", "Clip", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "LeakyRelu", "Log", "Neg",
        "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu",
    }
)  # fmt: skip
_BROADCAST = frozenset({"Add", "Div", "Max", "Min", "Mul", "Pow", "Sub", "Sum"})

# max_num_graph_transformation_steps, the runtime's own limit.
_ROUNDS = 10


def optimise_transposes(work: WorkGraph) -> None:
    """Move transposes behind elementwise operators where that saves some, and cancel those that meet."""
    for _ in range(_ROUNDS):
        order = work.execution_order()
        towards = _towards_transposes(order)
        changed = False
        for node in order:
            if node.dead:
                continue
            if node.type == "Transpose":
                changed |= _merge(work, node)
            elif not node.domain and (node.type in _UNARY or node.type in _BROADCAST):
                changed |= _push(work, node, towards)
        if not changed:
            return


def _towards_transposes(order: list[Node]) -> set[str]:
    """Names of tensors from which elementwise operators lead to a transpose."""
    towards: set[str] = set()
    for node in reversed(order):
        if node.type == "Transpose":
            towards.add(node.inputs[0])
        elif not node.domain and node.outputs[0] in towards:
            if node.type in _UNARY:
                towards.add(node.inputs[0])
            elif node.type in _BROADCAST:
                towards.update(node.inputs)
    return towards


def _merge(work: WorkGraph, node: Node) -> bool:
    """Two transposes in a row are one, or none."""
    before = work.producer.get(node.inputs[0])
    if before is None or before.type != "Transpose":
        return False
    first, second = ints(before.attributes.get("perm")), ints(node.attributes.get("perm"))
    if not first or len(first) != len(second):
        return False
    perm = tuple(first[axis] for axis in second)
    source = before.inputs[0]
    if perm == tuple(range(len(perm))):
        if not work.bypass(node, source):
            return False
    else:
        work.set_input(node, 0, source)
        node.attributes = {**node.attributes, "perm": perm}
    if not work.uses(before.outputs[0]):
        heir = node if not node.dead else work.producer.get(source) or next(iter(work.consumers.get(source, ())), None)
        if heir is not None:
            heir.sources |= before.sources
        work.remove(before)
    return True


def _push(work: WorkGraph, node: Node, towards: set[str]) -> bool:
    """Let ``node`` work on what was not transposed yet, and transpose its result."""
    result = node.outputs[0]
    slots = range(1) if node.type in _UNARY else range(len(node.inputs))
    perm: tuple[int, ...] = ()
    moved: set[int] = set()
    cost = 0
    for slot in slots:
        name = node.inputs[slot]
        if work.weight(name) is not None:
            continue
        before = work.producer.get(name)
        if before is None or before.type != "Transpose":
            return False  # a new transpose in front of this input would cost what another one saves
        mine = ints(before.attributes.get("perm"))
        if perm and mine != perm:
            return False
        perm = mine
        cost -= len(perm)
    rank = len(work.tensors[result].shape)
    if result not in towards:
        cost += rank
    if cost >= 0 or len(perm) != rank or len(node.outputs) != 1:
        return False
    for slot in slots:
        name = node.inputs[slot]
        weight = work.weight(name)
        if weight is None:
            before = work.producer[name]
            work.set_input(node, slot, before.inputs[0])
            if not work.uses(name):
                moved |= before.sources
                work.remove(before)
        elif weight.shape:
            full = (1,) * (rank - len(weight.shape)) + weight.shape
            work.set_input(node, slot, work.new_tensor(name, _inverse(full, perm), weight))
    tensor = work.tensors[result]
    inner = work.new_tensor(result, _inverse(tensor.shape, perm), tensor)
    work.producer.pop(result)
    node.outputs = [inner]
    work.producer[inner] = node
    work.add("Transpose", [inner], [result], {"perm": perm}, sources=moved)
    return True


def _inverse(shape: tuple[int, ...], perm: tuple[int, ...]) -> tuple[int, ...]:
    """Give the shape that ``perm`` turns into ``shape``."""
    before = [0] * len(shape)
    for axis, source in enumerate(perm):
        before[source] = shape[axis]
    return tuple(before)
