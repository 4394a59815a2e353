"""ONNX Runtime's transpose optimiser: transposes move behind elementwise operators, where they meet and cancel.

Learned from onnxruntime/core/optimizer/transpose_optimization. Modelled for unary and binary elementwise operators;
the runtime also moves transposes through reductions, slices, concatenations and others.
"""

from __future__ import annotations

from collections.abc import Sequence

from sectum.ort.workgraph import Node, WorkGraph, ints

_UNARY = frozenset(
    {
        "Abs", "Cast", "Ceil", "Clip", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "LeakyRelu", "Log", "Neg",
        "Reciprocal", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu",
    }
)  # fmt: skip
_BROADCAST = frozenset({"Add", "Div", "Max", "Min", "Mul", "Pow", "Sub", "Sum"})

_QUANTIZED = {"QLinearAdd": (0, 3), "QLinearMul": (0, 3), "QLinearLeakyRelu": (0,), "QLinearSigmoid": (0,)}
"""Operators on integers, with the inputs that have the shape of their result."""
_POOLS = frozenset({"QLinearAveragePool", "QLinearGlobalAveragePool", "MaxPool"})
"""Pools on integers. Their form for channels last is the faster one, so that transposes always move behind them."""
_TO_CHANNELS_FIRST = (0, 3, 1, 2)

# max_num_graph_transformation_steps, the runtime's own limit.
_ROUNDS = 10


def optimise_transposes(work: WorkGraph) -> None:
    """Move transposes behind elementwise operators where that saves some, and cancel those that meet."""
    for _ in range(_ROUNDS):
        order = work.execution_order()
        towards = _towards_transposes(work, order)
        changed = False
        for node in order:
            if node.dead:
                continue
            if node.type == "Transpose":
                changed |= _merge(work, node)
            elif slots := _slots(work, node):
                changed |= _push(work, node, slots, towards)
        if not changed:
            return


def _towards_transposes(work: WorkGraph, order: list[Node]) -> set[str]:
    """Names of tensors from which elementwise operators lead to a transpose."""
    towards: set[str] = set()
    for node in reversed(order):
        if node.type == "Transpose":
            towards.add(node.inputs[0])
        elif any(name in towards for name in node.outputs):
            towards.update(node.inputs[slot] for slot in _slots(work, node))
    return towards


def _slots(work: WorkGraph, node: Node) -> Sequence[int]:
    """The inputs of an operator from which a transpose can move behind it; empty if there are none."""
    if node.domain:
        return _QUANTIZED.get(node.type, (0,) if node.type in _POOLS else ())
    if node.type in _BROADCAST or node.type == "Concat":
        return range(len(node.inputs))
    if node.type in ("Split", "Squeeze"):
        return (0,)
    if node.type == "MaxPool" and len(node.outputs) == 1:
        return (0,) if work.tensors[node.outputs[0]].dtype in ("int8", "uint8") else ()
    return (0,) if node.type in _UNARY else ()


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


def _push(work: WorkGraph, node: Node, slots: Sequence[int], towards: set[str]) -> bool:
    """Let ``node`` work on what was not transposed yet, and transpose its result."""
    result = node.outputs[0]
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
    if node.type in ("Split", "Squeeze"):
        return _push_reshaping(work, node, perm, towards)
    if result not in towards:
        cost += rank
    if (cost >= 0 and node.type not in _POOLS) or len(perm) != rank or len(node.outputs) != 1:
        return False
    if node.type in _POOLS:
        if perm != _TO_CHANNELS_FIRST:
            return False
        node.attributes = {**node.attributes, "channels_last": 1}
        if node.type == "MaxPool":
            node.type, node.domain = "NhwcMaxPool", "com.microsoft"
    if node.type == "Concat":
        axis = node.attributes.get("axis")
        if not isinstance(axis, int):
            return False
        node.attributes = {**node.attributes, "axis": perm[axis]}
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


def _push_reshaping(work: WorkGraph, node: Node, perm: tuple[int, ...], towards: set[str]) -> bool:
    """Let a Split, or a Squeeze of one axis, work on what was not transposed yet, and transpose its results."""
    if node.type == "Split" and towards.isdisjoint(node.outputs):
        return False
    before = work.producer[node.inputs[0]]
    if node.type == "Split":
        axis = node.attributes.get("axis", 0)
        axis = axis if isinstance(axis, int) else 0
        node.attributes = {**node.attributes, "axis": perm[axis]}
        after = perm
    else:
        axes = work.weight(node.inputs[1]) if len(node.inputs) > 1 else None
        if axes is None or axes.value is None or axes.elements != 1:
            return False
        axis = perm[int(axes.value.ravel()[0])]
        work.set_input(node, 1, work.new_shape((axis,)))
        after = tuple(item - (item > axis) for item in perm if item != axis)
    work.set_input(node, 0, before.inputs[0])
    moved: set[int] = set()
    if not work.uses(before.outputs[0]):
        moved = set(before.sources)
        work.remove(before)
    results = node.outputs
    made = [work.new_tensor(r, _inverse(work.tensors[r].shape, after), work.tensors[r]) for r in results]
    for result in results:
        work.producer.pop(result)
    node.outputs = made
    for inner, result in zip(made, results, strict=True):
        work.producer[inner] = node
        if after == tuple(range(len(after))):
            continue
        work.add("Transpose", [inner], [result], {"perm": after}, sources=moved)
    return True


def _inverse(shape: tuple[int, ...], perm: tuple[int, ...]) -> tuple[int, ...]:
    """Give the shape that ``perm`` turns into ``shape``."""
    before = [0] * len(shape)
    for axis, source in enumerate(perm):
        before[source] = shape[axis]
    return tuple(before)
