"""ONNX Runtime's rewrites of levels 1 and 2 on the CPU: eliminations, folding into convolutions, fusions.

Learned from onnxruntime/core/optimizer and checked against what the runtime writes (`tests/support/observed.py`). Not
modelled: fused attention, a Cast between a transpose and a product, and what `sectum.ort.quantized` leaves out.
"""

from __future__ import annotations

from collections.abc import Callable

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

_Rule = Callable[[WorkGraph, Node], None]

_LEVEL_1: tuple[tuple[frozenset[str], _Rule], ...] = (
    (frozenset({"Relu"}), relu_before_clip),
    (frozenset({"Not"}), not_before_where),
    (frozenset({"Div"}), product_with_reciprocal),
    (frozenset({"Pad"}), pad_into_consumers),
    (frozenset({"Conv", "ConvTranspose"}), fold_affine),
    (frozenset({"MatMul"}), matmul_add_outside_attention),
    (frozenset({"Reshape"}), contiguous_reshapes),
    (frozenset({"Sqrt"}), early_layer_norm),
)
_PAIRS: tuple[tuple[frozenset[str], _Rule], ...] = (
    (frozenset({DEQUANTIZE}), dequantize_later),
    (frozenset({QUANTIZE}), quantize_earlier),
    (frozenset({"Conv", "ConvTranspose", "Gemm"}), quantize_weights),
    (frozenset({DEQUANTIZE}), dequantize_for_each),
)
_QUANTIZED: tuple[tuple[frozenset[str], _Rule], ...] = (
    (frozenset({"Relu", "Clip"}), activation_before_quantize),
    (TARGETS, quantized_form),
)
_LEVEL_2: tuple[tuple[frozenset[str], _Rule], ...] = (
    (frozenset({"Gemm"}), gemm_activation),
    (frozenset({"MatMulInteger"}), integer_product),
    (frozenset({"Conv"}), conv_activation),
    (frozenset({"Erf"}), gelu),
    (frozenset({"Sqrt"}), layer_norm),
    (frozenset({"Pow"}), root_mean_square_norm),
)
_LEVEL_2_AFTER_SPLITS: tuple[tuple[frozenset[str], _Rule], ...] = (
    (frozenset({"MatMul"}), matmul_add),
    (frozenset({"MatMul"}), transposed_product),
    (frozenset({"Add"}), bias_gelu),
    (frozenset({"LayerNormalization"}), skip_layer_norm),
    (frozenset({"Pow"}), fast_gelu),
    (frozenset({"Sigmoid"}), quick_gelu),
    (frozenset({"MatMul", "FusedMatMul"}), scaled_product),
    (frozenset({"FusedMatMul"}), transposed_product),
    (frozenset({"MatMulNBits"}), block_product_bias),
    (frozenset({"Add"}), bias_gelu),
)
_MAKERS = frozenset(
    {
        matmul_add, matmul_add_outside_attention, contiguous_reshapes, gelu, gemm_activation,
        conv_activation, quick_gelu, layer_norm,
        transposed_product, scaled_product, skip_layer_norm, quantized_form, integer_product,
        fast_gelu, bias_gelu, root_mean_square_norm,
        early_layer_norm, dequantize_later, quantize_earlier, dequantize_for_each, quantize_weights,
    }
)  # fmt: skip
# Types of node that a pass makes and a later pass looks for.
_MADE: dict[_Rule, frozenset[str]] = {
    matmul_add: frozenset({"Reshape", "Gemm"}),
    matmul_add_outside_attention: frozenset({"Reshape", "Gemm"}),
    layer_norm: frozenset({"LayerNormalization"}),
    early_layer_norm: frozenset({"LayerNormalization"}),
    scaled_product: frozenset({"FusedMatMul"}),
    transposed_product: frozenset({"FusedMatMul"}),
}


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


def _run(work: WorkGraph, passes: tuple[tuple[frozenset[str], _Rule], ...], present: set[str]) -> None:
    for kinds, rule in passes:
        if not present.isdisjoint(kinds):
            nodes = [node for node in work.nodes if node.type in kinds and not node.dead]
            if rule in _MAKERS and len(nodes) > 1:
                nodes = [node for node in work.execution_order() if node.type in kinds]
            for node in nodes:
                if not node.dead:
                    rule(work, node)
            present.update(_MADE.get(rule, ()))
