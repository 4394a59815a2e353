"""What becomes of constants: folded operators disappear, and equal constants become one.

ONNX Runtime merges equal small constants (constant sharing) and then equal operators on equal inputs (common
subexpression elimination) *before* it folds constants. Weights that are computed in the file, for example by
`ConstantOfShape`, are therefore merged where their recipe is equal: the nine light models of the ONNX package are
made this way, and VGG-19's 548 MiB shrink to 490 MiB (513 MB).
"""

from __future__ import annotations

from collections.abc import Hashable

from sectum.graph.ir import Graph, Operator, Tensor, TensorKind

# onnxruntime/core/optimizer/constant_sharing.cc: only constants with at most this many elements are compared.
_SHARED_ELEMENTS = 8

# Two runs of these differ, so two nodes are never one.
NONDETERMINISTIC = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


def constant_aliases(graph: Graph) -> dict[str, str]:
    """Which constants ONNX Runtime replaces by an equal one.

    Args:
        graph: the graph of the file; its constant operators are those whose outputs are all weights.

    Returns:
        Name of a replaced constant -> name of the one that stays.
    """
    aliases: dict[str, str] = {}
    shared: dict[Hashable, str] = {}
    seen: dict[Hashable, Operator] = {}
    tensors = graph.tensors
    weight = TensorKind.WEIGHT
    for op in graph.operators:
        if tensors[op.outputs[0] or next(filter(None, op.outputs))].kind is not weight:
            for name in op.inputs:
                if name and tensors[name].value is not None:
                    kept = _canonical(tensors[name], aliases, shared)
                    if kept != name:
                        aliases[name] = kept
            continue
        if op.type in NONDETERMINISTIC:
            continue
        inputs = tuple([_canonical(tensors[name], aliases, shared) if name else "" for name in op.inputs])
        attributes = op.attributes.items()
        key = (op.type, op.domain, inputs, tuple(attributes) if len(attributes) < 2 else tuple(sorted(attributes)))
        first = seen.setdefault(key, op)
        if first is not op:
            for mine, kept in zip(op.outputs, first.outputs, strict=False):
                if mine and tensors[mine].shape == tensors[kept].shape:
                    aliases[mine] = kept
    return aliases


def _canonical(tensor: Tensor, aliases: dict[str, str], shared: dict[Hashable, str]) -> str:
    name = aliases.get(tensor.name)
    if name is not None:
        return name
    value = tensor.value
    if value is None or value.size > _SHARED_ELEMENTS:
        return tensor.name
    return shared.setdefault((tensor.dtype, tensor.shape, value.tobytes()), tensor.name)
