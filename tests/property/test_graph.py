"""What holds for any graph and any bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import hypothesis.strategies as st
import onnx
import pytest
from hypothesis import given
from onnx import TensorProto, helper, shape_inference

from drawing import examples
from sectum.errors import SectumError, ShapeInconsistent
from sectum.graph import Graph, Limits, Operator, Tensor, TensorKind, read
from sectum.graph.protobuf import FieldBudget, encode_bytes, encode_number, encode_varint, fields, signed, varint
from sectum.ort import cost


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Small random graphs: operators read what came before, some tensors are weights, some outputs unused."""
    n = draw(st.integers(1, 8))
    sizes = st.integers(1, 20)
    tensors = {name: Tensor(name, (draw(sizes),), "float32", TensorKind.INPUT) for name in ("in0", "in1")}
    tensors["w"] = Tensor("w", (draw(sizes),), "float32", TensorKind.WEIGHT)
    operators = []
    for i in range(n):
        inputs = tuple(draw(st.lists(st.sampled_from(sorted(tensors)), min_size=1, max_size=3)))
        outputs = tuple(f"t{i}_{k}" for k in range(draw(st.integers(1, 2))))
        constant = set(inputs) <= {name for name, t in tensors.items() if t.kind is TensorKind.WEIGHT}
        for name in outputs:
            kind = TensorKind.WEIGHT if constant else TensorKind.ACTIVATION
            tensors[name] = Tensor(name, (draw(sizes),), "float32", kind)
        operators.append(Operator(f"op{i}", "Sum", inputs, outputs))
    made = [name for op in operators for name in op.outputs]
    ends = tuple(draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True)))
    return Graph("random", tuple(operators), tensors, ("in0", "in1"), ends, 17)


@given(graphs())
def test_peak_equals_brute_force(graph: Graph) -> None:
    """The peak is the largest sum of what has been made, and is still read or an output, over all operators."""
    moving = {name for name, t in graph.tensors.items() if t.kind is not TensorKind.WEIGHT}
    made: set[str] = set(graph.inputs)
    # An input that nothing reads is alive until the first operator has run.
    peak = sum(graph.tensors[name].n_bytes for name in graph.inputs)
    unread = {n for n in graph.inputs if n not in graph.outputs and all(n not in op.inputs for op in graph.operators)}
    for index, op in enumerate(graph.operators):
        made |= moving.intersection(op.outputs)
        later = {name for after in graph.operators[index:] for name in after.inputs}
        alive = {n for n in made if n in later or n in graph.outputs or n in op.outputs or n in unread}
        peak = max(peak, sum(graph.tensors[name].n_bytes for name in alive))
    assert graph.lifetimes.peak_bytes == peak


@given(graphs())
def test_a_lifetime_ends_with_the_last_reader(graph: Graph) -> None:
    """A tensor lives to its last reader, to its maker if it has none, and to the end if it is an output."""
    final = len(graph.operators) - 1
    for name, end in graph.lifetimes.end.items():
        uses = [i for i, op in enumerate(graph.operators) if name in op.inputs or name in op.outputs]
        assert end == (final if name in graph.outputs else max(uses, default=final))


@given(graphs())
def test_costs_are_never_negative(graph: Graph) -> None:
    """Every cost is a number of 0 or more, and bytes are those of the tensors."""
    for op in graph.operators:
        found = cost(op, graph)
        assert min(found.flops, found.input_bytes, found.weight_bytes, found.output_bytes) >= 0


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_cleanly(data: bytes) -> None:
    """Random bytes end in one of the documented errors, or, if they happen to be a model, in a graph."""
    with contextlib.suppress(SectumError):
        read(data)


def messages(depth: int) -> st.SearchStrategy[bytes]:
    """Well-formed protobuf messages with the field numbers of ONNX."""
    numbers = st.integers(1, 25)
    leaf = st.one_of(
        st.tuples(numbers, st.integers(-5, 2**63 - 1)).map(lambda t: encode_number(*t)),
        st.tuples(numbers, st.sampled_from([b"x", b"y", b"Relu", b"Conv", b"\x01\x02"])).map(
            lambda t: encode_bytes(*t)
        ),
    )
    if depth == 0:
        return st.lists(leaf, max_size=5).map(b"".join)
    inner = st.tuples(numbers, messages(depth - 1)).map(lambda t: encode_bytes(*t))
    return st.lists(st.one_of(leaf, inner), max_size=6).map(b"".join)


@examples(200)
@given(messages(4))
def test_any_message_is_refused_cleanly(body: bytes) -> None:
    """Well-formed protobuf that is no sensible model ends in one of the documented errors."""
    prefix = encode_number(1, 8) + encode_bytes(8, encode_number(2, 17))
    with contextlib.suppress(SectumError):
        read(prefix + encode_bytes(7, body))


@given(st.integers(-(2**63), 2**63 - 1))
def test_varints_come_back(value: int) -> None:
    """What is encoded is what is decoded, negative numbers included."""
    data = encode_varint(value)
    decoded, end = varint(data, 0, len(data))
    assert (signed(decoded), end) == (value, len(data))


@given(st.binary(max_size=200), st.integers(0, 30))
def test_the_walk_stays_inside(data: bytes, limit: int) -> None:
    """Fields lie inside the message, in order, and are never more than the budget."""

    def walk() -> Iterator[tuple[int, int]]:
        for _, kind, a, b in fields(data, 0, len(data), FieldBudget(limit)):
            if kind:
                yield a, b

    seen = []
    with contextlib.suppress(SectumError):
        seen.extend(walk())
    assert len(seen) <= limit
    assert all(0 <= a <= b <= len(data) for a, b in seen)
    assert seen == sorted(seen)


@st.composite
def windows(draw: st.DrawFn) -> tuple[onnx.NodeProto, list[int], list[int] | None]:
    """Convolutions and pools with random attributes, most of them valid."""
    kind = draw(st.sampled_from(["Conv", "MaxPool", "AveragePool", "ConvTranspose"]))
    kernel = [draw(st.integers(1, 5)) for _ in range(2)]
    attributes: dict[str, object] = {"kernel_shape": kernel}
    if draw(st.booleans()):
        attributes["strides"] = [draw(st.integers(1, 3)) for _ in range(2)]
    if draw(st.booleans()) and kind in ("Conv", "MaxPool", "ConvTranspose"):
        attributes["dilations"] = [draw(st.integers(1, 2)) for _ in range(2)]
    padding = draw(st.sampled_from(["", "pads", "SAME_UPPER", "VALID"]))
    if padding == "pads":
        attributes["pads"] = [draw(st.integers(0, k - 1)) for k in kernel * 2]
    elif padding:
        attributes["auto_pad"] = padding
    if kind in ("MaxPool", "AveragePool") and padding in ("", "pads"):
        attributes["ceil_mode"] = draw(st.integers(0, 1))
    group = draw(st.sampled_from([1, 2])) if kind.startswith("Conv") else 1
    if group > 1:
        attributes["group"] = group
    shape = [draw(st.integers(1, 2)), 4, draw(st.integers(1, 12)), draw(st.integers(1, 12))]
    weight = {"Conv": [6, 4 // group, *kernel], "ConvTranspose": [4, 3, *kernel]}.get(kind)
    inputs = ["x"] if weight is None else ["x", "w"]
    return helper.make_node(kind, inputs, ["y"], **attributes), shape, weight


def window_fits(node: onnx.NodeProto, shape: list[int]) -> bool:
    """Whether the kernel, spread by its dilations, is at most as large as the padded input."""
    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    pads, dilations = values.get("pads", [0] * 4), values.get("dilations", [1, 1])
    return all(
        (k - 1) * d + 1 <= size + before + after
        for k, d, size, before, after in zip(
            values["kernel_shape"], dilations, shape[2:], pads[:2], pads[2:], strict=True
        )
    )


@given(windows())
def test_windows_agree_with_onnx(case: tuple[onnx.NodeProto, list[int], list[int] | None]) -> None:
    """Convolutions and pools get the shape that ONNX's own inference gives them."""
    node, shape, weight = case
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    if weight is not None:
        inputs.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, weight))
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    inferred = shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.shape
    try:
        found = read(model.SerializeToString()).graph.tensors["y"].shape
    except ShapeInconsistent:
        # A window that does not fit: ONNX infers an empty or negative size, or 1 where its division of a negative
        # number is cut towards zero.
        empty = not inferred.dim or min(d.dim_value for d in inferred.dim) <= 0
        assert empty or not window_fits(node, shape)
        return
    assert found == tuple(d.dim_value for d in inferred.dim)


def test_a_budget_is_for_the_whole_file() -> None:
    """Fields of nested messages count towards one limit."""
    with pytest.raises(SectumError, match="more than 10 protobuf fields"):
        read(
            encode_bytes(7, encode_bytes(1, encode_bytes(4, b"R") + encode_number(60, 1) * 6) * 3),
            limits=Limits(fields=10),
        )
