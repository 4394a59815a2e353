"""Layer normalisation that the file writes out in primitive operators becomes one operator.

Learned from onnxruntime/core/optimizer/layer_norm_fusion.cc; the spelling of PyTorch's exporter is recognised:
ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div, Mul, Add.
"""

from __future__ import annotations

from sectum.ort.fusions import scalar
from sectum.ort.workgraph import Node, WorkGraph, ints

# From this opset on, the operator is ONNX's own and the fusion belongs to level 1.
_EARLY_OPSET = 17


def early_layer_norm(work: WorkGraph, root: Node) -> None:
    """As `layer_norm`, at level 1 and thus before transposes move, where the opset has the operator."""
    if work.opset >= _EARLY_OPSET:
        layer_norm(work, root)


def layer_norm(work: WorkGraph, root: Node) -> None:
    """Fuse the normalisation whose standard deviation ``root``, a Sqrt, takes."""
    add_epsilon = _producer(work, root.inputs[0], "Add")
    if add_epsilon is None or work.weight(add_epsilon.inputs[1]) is None:
        return
    variance = _producer(work, add_epsilon.inputs[0], "ReduceMean")
    square = _producer(work, variance.inputs[0], "Pow") if variance is not None else None
    centred = _producer(work, square.inputs[0], "Sub") if square is not None else None
    if variance is None or square is None or centred is None or work.weight(square.inputs[1]) is None:
        return
    source = centred.inputs[0]
    mean = _producer(work, centred.inputs[1], "ReduceMean")
    divide = work.sole_consumer(root)
    # Before opset 17 the runtime fuses later, after it has moved transposes into such a group of operators.
    if work.opset < _EARLY_OPSET and _producer(work, source, "Transpose") is not None:
        return
    if mean is None or mean.inputs[0] != source or divide is None or divide.type != "Div":
        return
    if divide.inputs != [centred.outputs[0], root.outputs[0]] or work.uses(centred.outputs[0]) != 2:
        return
    scale = work.sole_consumer(divide)
    shift = work.sole_consumer(scale) if scale is not None and scale.type == "Mul" else None
    if scale is None or shift is None or shift.type != "Add":
        return
    gamma, beta = _weight_beside(work, scale, divide), _weight_beside(work, shift, scale)
    axis = _last_axis(work, mean)
    if not gamma or not beta or axis is None or _last_axis(work, variance) != axis:
        return
    if any(work.sole_consumer(node) is None for node in (mean, square, variance, add_epsilon)):
        return
    fused = (shift, scale, divide, root, add_epsilon, variance, square, centred, mean)
    work.replace(fused, "LayerNormalization", [source, gamma, beta], [shift.outputs[0]], {"axis": axis})


def root_mean_square_norm(work: WorkGraph, square: Node) -> None:
    """A row divided by the root of the mean of its squares, and scaled, is one operator."""
    source = square.inputs[0]
    if not scalar(work, square, source):
        return
    chain = work.chain(square, ("ReduceMean", "Add", "Sqrt", "Div", "Mul"))
    if chain is None:
        return
    mean, shifted, root, divide, scale = chain[1:]
    gamma = _weight_beside(work, scale, divide)
    if divide.inputs != [source, root.outputs[0]] or not scalar(work, shifted, mean.outputs[0]) or not gamma:
        return
    axis = _last_axis(work, mean)
    if axis is None:
        return
    work.replace(chain, "SimplifiedLayerNormalization", [source, gamma], scale.outputs, {"axis": axis})


def _producer(work: WorkGraph, name: str, kind: str) -> Node | None:
    node = work.producer.get(name)
    return node if node is not None and node.type == kind and not node.domain else None


def _weight_beside(work: WorkGraph, node: Node, before: Node) -> str:
    """Name of the vector that a binary operator applies to what ``before`` makes; empty if there is none."""
    others = [name for name in node.inputs if name != before.outputs[0]]
    if len(others) != 1:
        return ""
    weight = work.weight(others[0])
    return others[0] if weight is not None and len(weight.shape) == 1 else ""


def _last_axis(work: WorkGraph, node: Node) -> int | None:
    """-1 if the mean is taken over the last axis and keeps it, else None."""
    axes = ints(node.attributes.get("axes"))
    if not axes and len(node.inputs) > 1 and node.inputs[1]:
        given = work.weight(node.inputs[1])
        if given is not None and given.value is not None:
            axes = tuple(given.value.astype(int).ravel().tolist())
    rank = len(work.tensors[node.inputs[0]].shape)
    return -1 if axes in ((-1,), (rank - 1,)) and node.attributes.get("keepdims", 1) == 1 else None
