"""The operator types: one row for each, which all other parts look up.

A type that has no row is never free: see `sectum.ort.costs`. To add a type, add a row to
`sectum.ort.untrained_operators`: its arithmetic, the latency model that it shares (``kind``), and what is special about
its memory.
"""

from __future__ import annotations

from collections.abc import Mapping

from sectum.graph.ir import Dataflow, Operator
from sectum.ort.operator_type import OperatorType
from sectum.ort.trained_operators import TRAINED
from sectum.ort.untrained_operators import UNTRAINED

KINDS = ("conv", "depthwise", "plain_conv", "gemm", "pool", "pointwise", "move", "recurrent", "quantized")
"""Kinds of operators: each has one latency model."""

OPERATORS: dict[str, OperatorType] = {row.name: row for row in (*TRAINED, *UNTRAINED)}
"""All known types by their qualified name."""

_UNKNOWN = OperatorType("")


def describe(op: Operator) -> OperatorType:
    """The row of an operator's type; for an unknown type, one without arithmetic."""
    return OPERATORS.get(op.qualified_type, _UNKNOWN)


def kind_of(op: Operator, graph: Dataflow) -> str:
    """The kind of an operator: the latency model that it shares with others."""
    kind = describe(op).kind
    if kind == "conv":
        group = op.attributes.get("group", 1)
        if isinstance(group, int) and 1 < group == graph.tensors[op.outputs[0]].shape[1]:
            return "depthwise"
    return kind


def trained_types() -> Mapping[int, OperatorType]:
    """Types that the latency models were trained on, by code."""
    return {row.code: row for row in sorted(OPERATORS.values(), key=lambda row: row.code) if row.code >= 0}
