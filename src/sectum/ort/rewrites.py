"""ONNX Runtime's rewrites of levels 1 and 2 on the CPU: eliminations, folding into convolutions, fusions.

Learned from onnxruntime/core/optimizer and checked against what the runtime writes (`tests/support/observed.py`). Not
modelled: fused attention, a Cast between a transpose and a product, and what `sectum.ort.quantized` leaves out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sectum.ort.activations import bias_gelu, block_product_bias, fast_gelu
from sectum.ort.conv_folding import fold_affine, pad_into_consumers
from sectum.ort.eliminations import (
    ELIMINATIONS,
    merge_equal,
    not_before_where,
    product_with_reciprocal,
    relu_before_clip,
)
from sectum.ort.fusions import (
    CONV_ACTIVATIONS,
    GEMM_ACTIVATIONS,
    contiguous_reshapes,
    conv_activation,
    gelu,
    gemm_activation,
    matmul_add,
    matmul_add_outside_attention,
    quick_gelu,
)
from sectum.ort.half_floats import widen_half_floats
from sectum.ort.layer_norm import early_layer_norm, layer_norm, root_mean_square_norm
from sectum.ort.products import scaled_product, skip_layer_norm, transposed_product
from sectum.ort.quantized import DEQUANTIZE, TARGETS, activation_before_quantize, integer_product, quantized_form
from sectum.ort.quantized_moves import (
    QUANTIZE,
    dequantize_for_each,
    dequantize_later,
    quantize_earlier,
    quantize_weights,
)
from sectum.ort.splits import fuse_into_splits
from sectum.ort.transposes import optimise_transposes
from sectum.ort.workgraph import Node, WorkGraph

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_GELUS = frozenset({"Gelu", "FastGelu"})
_NONE: frozenset[str] = frozenset()


class _Pass(NamedTuple):
    """One pass over the graph.

    Attributes:
        starts: types of the nodes that the rule is tried on.
        rule: rewrites the graph around a node, or leaves it.
        beside: types of which the rule needs one beside the node that it starts from; empty where it needs none.
        numbers: whether it makes nodes, which it then must visit in the order of execution: they are numbered so.
        makes: types of these nodes that a later pass looks for.
    """

    starts: frozenset[str]
    rule: Callable[[WorkGraph, Node], None]
    beside: frozenset[str] = _NONE
    numbers: bool = True
    makes: frozenset[str] = _NONE


_LEVEL_1 = (
    _Pass(frozenset({"Relu"}), relu_before_clip, beside=frozenset({"Clip"}), numbers=False),
    _Pass(frozenset({"Not"}), not_before_where, beside=frozenset({"Where"}), numbers=False),
    _Pass(frozenset({"Div"}), product_with_reciprocal, beside=frozenset({"Mul"}), numbers=False),
    _Pass(frozenset({"Pad"}), pad_into_consumers, numbers=False),
    _Pass(_CONVOLUTIONS, fold_affine, numbers=False),
    _Pass(frozenset({"MatMul"}), matmul_add_outside_attention, makes=frozenset({"Reshape", "Gemm"})),
    _Pass(frozenset({"Reshape"}), contiguous_reshapes),
    _Pass(frozenset({"Sqrt"}), early_layer_norm, makes=frozenset({"LayerNormalization"})),
)
_PAIRS = (
    _Pass(frozenset({DEQUANTIZE}), dequantize_later),
    _Pass(frozenset({QUANTIZE}), quantize_earlier),
    _Pass(_CONVOLUTIONS | {"Gemm"}, quantize_weights),
    _Pass(frozenset({DEQUANTIZE}), dequantize_for_each),
)
_QUANTIZED = (
    _Pass(frozenset({"Relu", "Clip"}), activation_before_quantize, numbers=False),
    _Pass(TARGETS, quantized_form),
)
_LEVEL_2 = (
    _Pass(frozenset({"Gemm"}), gemm_activation, beside=GEMM_ACTIVATIONS),
    _Pass(frozenset({"MatMulInteger"}), integer_product),
    _Pass(frozenset({"Conv"}), conv_activation, beside=CONV_ACTIVATIONS),
    _Pass(frozenset({"Erf"}), gelu, makes=frozenset({"Gelu"})),
    _Pass(frozenset({"Sqrt"}), layer_norm, makes=frozenset({"LayerNormalization"})),
    _Pass(frozenset({"Pow"}), root_mean_square_norm),
)
_LEVEL_2_AFTER_SPLITS = (
    _Pass(frozenset({"MatMul"}), matmul_add, makes=frozenset({"Reshape", "Gemm"})),
    _Pass(frozenset({"MatMul"}), transposed_product, makes=frozenset({"FusedMatMul"})),
    _Pass(frozenset({"Add"}), bias_gelu, beside=_GELUS),
    _Pass(frozenset({"LayerNormalization"}), skip_layer_norm),
    _Pass(frozenset({"Pow"}), fast_gelu, makes=frozenset({"FastGelu"})),
    _Pass(frozenset({"Sigmoid"}), quick_gelu, beside=frozenset({"Mul"})),
    _Pass(frozenset({"MatMul", "FusedMatMul"}), scaled_product, makes=frozenset({"FusedMatMul"})),
    _Pass(frozenset({"FusedMatMul"}), transposed_product, makes=frozenset({"FusedMatMul"})),
    _Pass(frozenset({"MatMulNBits"}), block_product_bias, numbers=False),
    _Pass(frozenset({"Add"}), bias_gelu, beside=_GELUS),
)


def apply_rewrites(work: WorkGraph) -> None:
    """Rewrite the graph as levels 1 and 2 do, in their order.

    A pass that makes nodes visits the graph in the execution order of its own beginning, so that they are numbered
    as the runtime's.
    """
    present = {node.type for node in work.nodes}
    if not present.isdisjoint(ELIMINATIONS):
        for node in work.nodes:
            rule = ELIMINATIONS.get(node.type)
            if rule is not None and not node.dead:
                rule(work, node)
    merge_equal(work)
    _run(work, _LEVEL_1, present)
    if not present.isdisjoint({"Gather", "Slice"}):
        fuse_into_splits(work)
    if DEQUANTIZE in present:
        _run(work, _PAIRS, present)
    if "Transpose" in present:
        optimise_transposes(work)
    present |= widen_half_floats(work)
    if {"Transpose", "Resize"} <= present:
        optimise_transposes(work, placed=True)
    if DEQUANTIZE in present:
        _run(work, _QUANTIZED, present)
    _run(work, _LEVEL_2, present)
    _run(work, _LEVEL_2_AFTER_SPLITS, present)


def _run(work: WorkGraph, passes: tuple[_Pass, ...], present: set[str]) -> None:
    """Run those passes that find something to start from, and what they need beside it."""
    for starts, rule, beside, numbers, makes in passes:
        if present.isdisjoint(starts) or (beside and present.isdisjoint(beside)):
            continue
        nodes = [node for node in work.nodes if node.type in starts and not node.dead]
        if numbers and len(nodes) > 1:
            nodes = [node for node in work.execution_order() if node.type in starts]
        for node in nodes:
            if not node.dead:
                rule(work, node)
        present |= makes
