"""Fusions: matrix products with what follows them, reshapes, GELU, and activations into convolutions."""

from __future__ import annotations

from sectum.graph.ir import AttributeValue
from sectum.ort.workgraph import Node, WorkGraph, other_input

MICROSOFT = "com.microsoft"

CONV_ACTIVATIONS = frozenset({"Relu", "Sigmoid", "Tanh", "HardSigmoid", "LeakyRelu", "Clip"})
GEMM_ACTIVATIONS = frozenset(
    {
        "Elu",
        "HardSigmoid",
        "LeakyRelu",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Tanh",
        "ThresholdedRelu",
    }
)
_RESHAPES = frozenset({"Reshape", "Squeeze", "Unsqueeze"})


def matmul_add_outside_attention(work: WorkGraph, node: Node) -> None:
    """As `matmul_add`, but leave the four products around an attention for a later pass."""
    add = work.sole_consumer(node)
    if add is not None and len(work.tensors[node.inputs[0]].shape) > 2:
        norm = work.producer.get(node.inputs[0])
        if _projects(work, norm) is not None:
            return
        total = work.sole_consumer(add)
        if total is not None and total.type == "Add":
            others = [work.producer.get(item) for item in total.inputs if item != add.outputs[0]]
            if any(_projects(work, other) is add for other in others):
                return
    matmul_add(work, node)


def _projects(work: WorkGraph, norm: Node | None) -> Node | None:
    """The last Add of an attention whose three projections read a LayerNormalization, which is added to its result."""
    if norm is None or norm.type != "LayerNormalization":
        return None
    readers = work.consumers.get(norm.outputs[0], ())
    if sorted(reader.type for reader in readers) != ["Add", "MatMul", "MatMul", "MatMul"]:
        return None
    total = next(reader for reader in readers if reader.type == "Add")
    last = work.producer.get(next((item for item in total.inputs if item != norm.outputs[0]), ""))
    return last if last is not None and last.type == "Add" else None


def matmul_add(work: WorkGraph, node: Node) -> None:
    """MatMul and the Add of a constant row become Gemm; operands of higher rank are flattened around it."""
    add = work.sole_consumer(node)
    left = work.tensors[node.inputs[0]]
    right = work.tensors[node.inputs[1]]
    if add is not None and add.type == "BatchNormalization":
        _matmul_norm(work, node, add)
        return
    if add is None or add.type != "Add" or len(right.shape) != 2 or len(left.shape) < 2:
        return
    bias_name = other_input(add, node.outputs[0])
    bias = work.tensors[bias_name]
    columns = right.shape[1]
    if left.dtype not in ("float32", "float16") or bias_name == node.outputs[0]:
        return
    flat_rank = len(left.shape) == 2
    rows = left.elements // max(left.shape[-1], 1)
    if flat_rank:
        if bias.shape not in ((columns,), (1,), (1, columns), (rows, 1), (rows, columns), (1, 1)):
            return
    elif bias.shape not in ((columns,), (1, columns)):
        return
    source, result = node.inputs[0], add.outputs[0]
    inner = result
    if not flat_rank:
        shape = (rows, left.shape[-1])
        source = work.new_tensor(f"{result}_rows", shape, work.tensors[node.outputs[0]])
        inner = work.new_tensor(f"{result}_gemm", (rows, columns), work.tensors[node.outputs[0]])
    matrix = node.inputs[1]
    full = work.tensors[result].shape
    left_name = node.inputs[0]
    if not flat_rank:
        work.add("Reshape", [left_name, work.new_shape(work.tensors[source].shape, shared=False)], [source])
    gemm: dict[str, AttributeValue] = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
    work.replace((add, node), "Gemm", [source, matrix, bias_name], [inner], gemm, name=add.name)
    if not flat_rank:
        work.add("Reshape", [inner, work.new_shape(full, shared=False)], [result])


def _matmul_norm(work: WorkGraph, node: Node, norm: Node) -> None:
    """A product with a constant matrix and the BatchNormalization after it are a Gemm with other weights."""
    weight = work.weight(node.inputs[1])
    constant = all(work.weight(item) is not None for item in norm.inputs[1:5])
    if weight is None or len(weight.shape) != 2 or not constant or any(work.uses(item) for item in norm.outputs[1:]):
        return
    if len(work.tensors[node.inputs[0]].shape) != 2:
        return
    source, result = node.inputs[0], norm.outputs[0]
    scaled = work.new_tensor(weight.name, weight.shape, weight)
    shift = work.new_tensor(f"{weight.name}_bias", weight.shape[1:], weight)
    gemm: dict[str, AttributeValue] = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
    work.replace((norm, node), "Gemm", [source, scaled, shift], [result], gemm, name=node.name)


def contiguous_reshapes(work: WorkGraph, node: Node) -> None:
    """A Reshape and the reshapes that follow it one by one are one Reshape."""
    last = node
    chain = []
    while (after := work.sole_consumer(last)) is not None and after.type in _RESHAPES:
        chain.append(after)
        last = after
    if not chain:
        return
    source, result = node.inputs[0], last.outputs[0]
    shape = work.new_shape(work.tensors[result].shape)
    work.replace((node, *chain), "Reshape", [source, shape], [result])


def scalar(work: WorkGraph, node: Node, other: str) -> bool:
    """Whether a binary node applies one constant number to ``other``."""
    if len(node.inputs) != 2 or other not in node.inputs:
        return False
    operand = work.weight(other_input(node, other))
    return operand is not None and operand.elements == 1


def gelu(work: WorkGraph, erf: Node) -> None:
    """``x / sqrt 2 -> Erf -> + 1 -> * x -> * 0.5`` in both of its spellings."""
    scale = work.producer.get(erf.inputs[0])
    if scale is None or scale.type not in ("Div", "Mul") or work.sole_consumer(scale) is not erf:
        return
    source = scale.inputs[0]
    add = work.sole_consumer(erf)
    if not scalar(work, scale, source) or add is None or add.type != "Add":
        return
    product = work.sole_consumer(add)
    if not scalar(work, add, erf.outputs[0]) or product is None or product.type != "Mul":
        return
    removed = [scale, erf, add, product]
    other = other_input(product, add.outputs[0])
    if other == source:
        half = work.sole_consumer(product)
        if half is None or half.type != "Mul" or not scalar(work, half, product.outputs[0]):
            return
        removed.append(half)
    else:
        half = work.producer.get(other)
        if half is None or half.type != "Mul" or not scalar(work, half, source):
            return
        if work.sole_consumer(half) is not product:
            return
        removed.insert(0, half)
    work.replace(removed, "Gelu", [source], [removed[-1].outputs[0]], domain=MICROSOFT)


def activation_attributes(work: WorkGraph, node: Node) -> dict[str, AttributeValue] | None:
    """What an activation adds to the attributes of the convolution that it is fused into; None if it cannot be."""
    if node.type not in CONV_ACTIVATIONS or node.domain:
        return None
    if node.type == "Clip" and any(item and work.weight(item) is None for item in node.inputs[1:]):
        return None
    return {"activation": node.type}


def _replace_pair(work: WorkGraph, first: Node, second: Node, kind: str, extra: dict[str, AttributeValue]) -> None:
    attributes = {**first.attributes, **extra}
    work.replace((second, first), kind, first.inputs, second.outputs, attributes, MICROSOFT, first.name)


def gemm_activation(work: WorkGraph, gemm: Node) -> None:
    """Fuse the activation that alone reads a Gemm."""
    after = work.sole_consumer(gemm)
    if after is not None and after.type in GEMM_ACTIVATIONS and not after.domain:
        _replace_pair(work, gemm, after, "FusedGemm", {"activation": after.type})


def conv_activation(work: WorkGraph, conv: Node) -> None:
    """Fuse the activation that alone reads a convolution."""
    after = work.sole_consumer(conv)
    if after is None or work.tensors[conv.outputs[0]].dtype != "float32":
        return
    extra = activation_attributes(work, after)
    if extra is not None:
        _replace_pair(work, conv, after, "FusedConv", extra)


def quick_gelu(work: WorkGraph, sigmoid: Node) -> None:
    """``x * Sigmoid(x)`` and ``x * Sigmoid(alpha * x)``."""
    product = work.sole_consumer(sigmoid)
    if product is None or product.type != "Mul" or len(product.inputs) != 2:
        return
    other = other_input(product, sigmoid.outputs[0])
    removed = [sigmoid, product]
    if other != sigmoid.inputs[0]:
        scale = work.producer.get(sigmoid.inputs[0])
        if scale is None or scale.type != "Mul" or not scalar(work, scale, other):
            return
        if work.sole_consumer(scale) is not sigmoid:
            return
        removed.insert(0, scale)
    work.replace(removed, "QuickGelu", [other], [product.outputs[0]], {"alpha": 1.0}, MICROSOFT)


def fuse_conv_add(work: WorkGraph) -> None:
    """Level 3: convolutions of images that kept their layout take in the Add after them, and an activation after that.

    The runtime leaves out those without a bias.
    """
    for conv in tuple(work.nodes):
        if conv.dead or conv.type != "Conv" or conv.domain or len(conv.inputs) != 3:
            continue
        add = work.sole_consumer(conv)
        result = conv.outputs[0]
        if add is None or add.type != "Add" or add.domain or work.tensors[result].dtype != "float32":
            continue
        if len(work.tensors[result].shape) != 4:
            continue
        other = other_input(add, result)
        if other == result or work.tensors[other].shape != work.tensors[result].shape:
            continue
        extra: dict[str, AttributeValue] = {}
        last = add
        after = work.sole_consumer(add)
        if after is not None and (found := activation_attributes(work, after)) is not None:
            extra, last = found, after
        fused = (conv, add) if last is add else (conv, add, last)
        attributes = {**conv.attributes, **extra}
        work.replace(fused, "FusedConv", [*conv.inputs, other], last.outputs, attributes, MICROSOFT, conv.name)
