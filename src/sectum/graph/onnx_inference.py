"""Shapes of the less common operators, asked of ONNX's own inference one operator at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sectum.errors import ModelMalformed, ShapeInconsistent
from sectum.graph.inference_context import InferenceContext, Typed
from sectum.graph.protobuf import Buffer
from sectum.graph.raw_tensor import DTYPE_CODES, DTYPES


def infer_by_onnx(ctx: InferenceContext, opsets: Mapping[str, int], buf: Buffer) -> dict[str, Typed]:
    """Output types as ``onnx.shape_inference`` finds them; outputs that it cannot find are absent.

    Raises:
        ShapeInconsistent: ONNX finds a contradiction.
        ModelMalformed: no such operator in this operator set.
    """
    _check_einsum(ctx)
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
    from onnx import checker, defs, helper, shape_inference

    node = ctx.node
    version = opsets.get(node.domain, 1)
    try:
        schema = defs.get_schema(node.op_type, min(version, defs.onnx_opset_version()), node.domain)
    except defs.SchemaError:
        raise ModelMalformed(
            f"operator set {version} of '{node.domain or 'ai.onnx'}' has no operator {node.op_type} "
            f"(operator '{ctx.label}'): export the model again with a newer operator set"
        ) from None
    types = {}
    data = {}
    for name, shape, dtype, value in zip(node.inputs, ctx.shapes, ctx.dtypes, ctx.values, strict=True):
        if shape is None or dtype is None:
            continue
        types[name] = helper.make_tensor_type_proto(DTYPE_CODES[dtype], shape)
        if value is not None:
            data[name] = onnx.numpy_helper.from_array(value, name)
    try:
        proto = onnx.NodeProto.FromString(buf[node.span[0] : node.span[1]])
        # An operator taken out of an If has other names than in the file.
        proto.name = ctx.label
        proto.ClearField("input")
        proto.input.extend(node.inputs)
        proto.ClearField("output")
        proto.output.extend(node.outputs)
        found = shape_inference.infer_node_outputs(
            schema, proto, types, data, opset_imports=[helper.make_opsetid(d, v) for d, v in opsets.items()]
        )
    except (
        shape_inference.InferenceError,
        checker.ValidationError,
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
        DecodeError,
    ) as problem:
        first_line = str(problem).strip().splitlines()[0][:200] if str(problem).strip() else repr(problem)
        raise ShapeInconsistent(
            f"operator '{ctx.label}' ({node.op_type}): ONNX's shape inference says: {first_line}. "
            "Check the input shapes that you gave, or export the model again"
        ) from None
    result: dict[str, Typed] = {}
    for name, proto_type in found.items():
        tensor = proto_type.tensor_type
        if not proto_type.HasField("tensor_type") or not tensor.HasField("shape"):
            continue
        dims = tensor.shape.dim
        if all(d.HasField("dim_value") for d in dims) and tensor.elem_type in DTYPES:
            result[name] = (tuple(d.dim_value for d in dims), DTYPES[tensor.elem_type])
    return result


_TERM = r"[A-Za-z ]*(?:\.\.\.[A-Za-z ]*)?"
_EINSUM = re.compile(rf"{_TERM}(?:,{_TERM})*(?:->{_TERM})?")


def _check_einsum(ctx: InferenceContext) -> None:
    # ONNX 1.23's inference of Einsum never returns for other characters, nor for two ellipses in one term.
    if ctx.node.op_type == "Einsum" and not _EINSUM.fullmatch(ctx.text("equation", "")):
        raise ModelMalformed(
            f"the equation of operator '{ctx.label}' (Einsum) must be terms of letters with one ellipsis at most, "
            "commas between them and one arrow: export the model again"
        )
