"""The graph that ONNX Runtime says it executes: the truth that `sectum.ort.optimize` is held against.

The runtime is asked for it: it optimises the model, writes the optimised structure (weights apart, so that they
are never parsed here), and runs it once under its own profiler, which reports the shape of every output.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sectum.errors import ModelMalformed, ShapeUnbound
from sectum.graph.ir import AttributeValue, Operator, Tensor, TensorKind
from sectum.ort.cpu import Cpu
from sectum.ort.optimized import OptimizedGraph

if TYPE_CHECKING:
    import onnx
    import onnxruntime

# The profiler writes C++ type names.
_PROFILE_DTYPES: Mapping[str, str] = {
    "float": "float32", "double": "float64", "float16": "float16", "bfloat16": "bfloat16",
    "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64",
    "uint8": "uint8", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64",
    "bool": "bool", "string": "string",
}  # fmt: skip

# Initialisers from this size on stay outside the structure that is parsed.
_EXTERNAL_BYTES = 64
_STRUCTURE = "optimised.onnx"


def optimized_by_runtime(
    model_bytes: bytes, threads: int = 1, *, dimensions: Mapping[str, int] | None = None
) -> OptimizedGraph:
    """Ask ONNX Runtime which graph it executes at its default optimisation level.

    Args:
        model_bytes: a serialised ONNX model whose weights are inside.
        threads: intra-operator threads of the session.
        dimensions: values for symbolic dimensions, by name (for example ``{"batch": 4}``).

    Returns:
        The executed graph, in the runtime's own order and with the physical shapes of all tensors.

    Raises:
        ModelMalformed: the runtime refuses the model.
        ShapeUnbound: an input has a dimension without a value.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="sectum-") as folder:
        options = observing_options(Path(folder), threads, dimensions)
        try:
            session = onnxruntime.InferenceSession(model_bytes, options, providers=["CPUExecutionProvider"])
            session.run(None, zero_inputs(session))
        except _runtime_errors() as error:
            raise ModelMalformed(
                f"ONNX Runtime {onnxruntime.__version__} refuses the model: {error}. "
                "Expected a model that it can load and run; check it with onnx.checker"
            ) from error
        return observed_graph(session, Path(folder))


def observing_options(
    folder: Path, threads: int = 1, dimensions: Mapping[str, int] | None = None
) -> onnxruntime.SessionOptions:
    """Session options that leave in ``folder`` what `observed_graph` reads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / _STRUCTURE)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_min_size_in_bytes", str(_EXTERNAL_BYTES)
    )
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    for name, value in (dimensions or {}).items():
        options.add_free_dimension_override_by_name(name, value)
    return options


def observed_graph(session: onnxruntime.InferenceSession, folder: Path) -> OptimizedGraph:
    """Read what a session made with `observing_options` executes, after it has run at least once.

    The session's profiling ends here.
    """
    import onnx

    profile = json.loads(Path(session.end_profiling()).read_bytes())
    model = onnx.load(str(folder / _STRUCTURE), load_external_data=False)
    events = [e for e in profile if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    return _graph(model, events[: len(model.graph.node)])


def _runtime_errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NoModel,
        state.NotImplemented, state.RuntimeException,
    )  # fmt: skip


def zero_inputs(session: onnxruntime.InferenceSession) -> dict[str, np.ndarray[Any, Any]]:
    """Inputs of the session's shapes, all zero.

    Raises:
        ShapeUnbound: an input has a dimension without a value.
    """
    types: dict[str, Any] = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
    types |= {f"tensor({t})": getattr(np, t) for t in ("int8", "int16", "int32", "int64", "uint8", "uint16")}
    types |= {"tensor(uint32)": np.uint32, "tensor(uint64)": np.uint64, "tensor(bool)": np.bool_}
    feeds: dict[str, np.ndarray[Any, Any]] = {}
    for item in session.get_inputs():
        unbound = [d for d in item.shape if not isinstance(d, int)]
        if unbound or item.type not in types:
            raise ShapeUnbound(
                f"input '{item.name}' is {item.type} of shape {item.shape}: expected a tensor whose dimensions all "
                "have values; bind the symbolic ones with 'dimensions'"
            )
        feeds[item.name] = np.zeros(item.shape, types[item.type])
    return feeds


def _attribute(proto: onnx.AttributeProto) -> AttributeValue | None:
    import onnx

    value = onnx.helper.get_attribute_value(proto)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (int, float, str)):
        return value
    if isinstance(value, (list, tuple)) or hasattr(value, "__iter__"):
        return tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in value)
    return None  # a tensor or a subgraph: not needed to know what runs


def _graph(model: onnx.ModelProto, events: list[dict[str, Any]]) -> OptimizedGraph:
    import onnx

    proto = model.graph
    if len(events) != len(proto.node):
        raise ModelMalformed(
            f"ONNX Runtime ran {len(events)} operators of the {len(proto.node)} that it wrote: expected a model "
            "without control flow; export it without If, Loop and Scan"
        )
    tensors: dict[str, Tensor] = {}
    dtypes = {
        number: onnx.helper.tensor_dtype_to_np_dtype(number).name for number in onnx.helper.get_all_tensor_dtypes()
    }
    for weight in proto.initializer:
        shape = tuple(weight.dims)
        tensors[weight.name] = Tensor(weight.name, shape, dtypes[weight.data_type], TensorKind.WEIGHT)
    inputs = tuple(i.name for i in proto.input if i.name not in tensors)
    by_name = {i.name: i for i in proto.input}
    for name in inputs:
        kind = by_name[name].type.tensor_type
        shape = tuple(d.dim_value for d in kind.shape.dim)
        tensors[name] = Tensor(name, shape, dtypes[kind.elem_type], TensorKind.INPUT)
    operators = []
    for node, event in zip(proto.node, events, strict=True):
        reported = event["args"]["output_type_shape"]
        if event["args"]["op_name"] != node.op_type:
            raise ModelMalformed(
                f"ONNX Runtime wrote '{node.op_type}' where it ran '{event['args']['op_name']}': expected one order; "
                "this release reads the profile of ONNX Runtime 1.31"
            )
        for name, entry in zip((n for n in node.output if n), reported, strict=True):
            ((dtype, dims),) = entry.items()
            kind_ = TensorKind.ACTIVATION
            tensors[name] = Tensor(name, tuple(dims), _PROFILE_DTYPES[dtype], kind_)
        attributes = {a.name: v for a in node.attribute if (v := _attribute(a)) is not None}
        domain = "" if node.domain == "ai.onnx" else node.domain
        operators.append(Operator(node.name, node.op_type, tuple(node.input), tuple(node.output), attributes, domain))
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    outputs = tuple(o.name for o in proto.output)
    names = tuple(op.name for op in operators)
    return OptimizedGraph(
        proto.name, tuple(operators), tensors, inputs, outputs, opset, Cpu.here(), ((),) * len(names), names
    )
