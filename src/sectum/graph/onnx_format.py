"""The ONNX file format: a parser of the ``onnx.proto`` messages that a network's cost depends on.

The parser works on the file's bytes and keeps, for big payloads, where they lie instead of what they hold.
Memory is therefore bounded by the number of operators, however large the weights. Field numbers:
``onnx/onnx.proto`` of ONNX 1.23.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sectum.errors import ModelMalformed, ModelTooLarge
from sectum.graph.ir import AttributeValue
from sectum.graph.limits import Limits
from sectum.graph.message_reader import MessageReader, Span
from sectum.graph.protobuf import BYTES, VARINT, Buffer, fields, signed
from sectum.graph.raw_attribute import RawAttribute, parse_attribute
from sectum.graph.raw_tensor import RawTensor, parse_tensor

_SHARED_BYTES = 512


@dataclass(slots=True)
class RawNode:
    """A NodeProto; ``span`` is where its bytes lie in the file."""

    op_type: str
    domain: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, AttributeValue]
    tensors: dict[str, RawTensor]
    graphs: dict[str, RawGraph]
    span: Span


@dataclass(slots=True)
class RawValueInfo:
    """A ValueInfoProto. Dimensions are numbers, symbols, or ``None`` where nothing is said."""

    name: str
    elem_type: int
    shape: tuple[int | str | None, ...] | None
    span: Span


@dataclass(slots=True)
class RawGraph:
    """A GraphProto. ``value_infos`` are parsed only when asked for: few models need them."""

    name: str = ""
    nodes: list[RawNode] = field(default_factory=list)
    initialisers: list[RawTensor] = field(default_factory=list)
    inputs: list[tuple[str, Span]] = field(default_factory=list)
    outputs: list[tuple[str, Span]] = field(default_factory=list)
    value_infos: list[Span] = field(default_factory=list)
    sparse: int = 0


@dataclass(slots=True)
class RawModel:
    """A ModelProto. ``rest`` are the fields that a rewritten model keeps: operator sets and functions."""

    ir_version: int
    opsets: dict[str, int]
    functions: set[tuple[str, str]]
    graph: RawGraph
    rest: list[tuple[int, Span]]


class Parser(MessageReader):
    """Parses one file under limits. All methods raise ModelMalformed or ModelTooLarge."""

    def __init__(self, buf: Buffer, limits: Limits) -> None:
        super().__init__(buf, limits)
        self._nodes = 0
        self._attributes: dict[bytes, RawAttribute] = {}

    def model(self) -> RawModel:
        """Whole file."""
        buf = self.buf
        ir_version = 0
        opsets: dict[str, int] = {}
        functions: set[tuple[str, str]] = set()
        graph: RawGraph | None = None
        rest: list[tuple[int, Span]] = []
        for number, kind, a, b in fields(buf, 0, len(buf), self.budget):
            if number == 7:
                if graph is not None:
                    raise ModelMalformed("the file holds two graphs: ONNX has one; export the model again")
                self.expect(kind == BYTES, "graph")
                graph = self.graph(a, b, 1)
            elif number == 1:
                self.expect(kind == VARINT, "ir_version")
                ir_version = signed(a)
            elif number == 8:
                self.expect(kind == BYTES, "opset_import")
                domain, version = self._opset(a, b)
                opsets[domain] = version
                rest.append((number, (a, b)))
            elif number == 25:
                self.expect(kind == BYTES, "functions")
                functions.add(self.two_texts(a, b, 10, 1))  # domain and name
                rest.append((number, (a, b)))
        if graph is None:
            raise ModelMalformed("the file holds no graph: it is not an ONNX model, or it is truncated")
        if not opsets:
            raise ModelMalformed("the file names no operator set (opset_import): export the model again")
        return RawModel(ir_version, opsets, functions, graph, rest)

    def graph(self, start: int, stop: int, depth: int) -> RawGraph:
        """GraphProto in ``buf[start:stop]``."""
        limits = self.limits
        if depth > limits.nesting:
            raise ModelTooLarge(
                f"subgraphs are nested more than {limits.nesting} deep; check the file's source or raise Limits.nesting"
            )
        raw = RawGraph()
        for number, kind, a, b in fields(self.buf, start, stop, self.budget):
            if kind != BYTES:
                self.expect(number not in (1, 2, 5, 11, 12, 13, 15), f"graph field {number}")
            elif number == 1:
                self._nodes += 1
                if self._nodes > limits.nodes:
                    raise ModelTooLarge(
                        f"the model has more than {limits.nodes} operators; check its source or raise Limits.nodes"
                    )
                raw.nodes.append(self.node(a, b, depth))
            elif number == 5:
                raw.initialisers.append(parse_tensor(self, a, b))
            elif number == 11:
                raw.inputs.append((self._value_name(a, b), (a, b)))
            elif number == 12:
                raw.outputs.append((self._value_name(a, b), (a, b)))
            elif number == 13:
                raw.value_infos.append((a, b))
            elif number == 2:
                raw.name = self.text(a, b)
            elif number == 15:
                raw.sparse += 1
        return raw

    def node(self, start: int, stop: int, depth: int) -> RawNode:
        """NodeProto in ``buf[start:stop]``."""
        text = self.text
        raw = RawNode("", "", "", [], [], {}, {}, {}, (start, stop))
        n_attributes = 0
        for number, kind, a, b in fields(self.buf, start, stop, self.budget):
            if kind != BYTES:
                self.expect(number > 7, f"node field {number}")
            elif number == 1:
                raw.inputs.append(text(a, b))
            elif number == 2:
                raw.outputs.append(text(a, b))
            elif number == 5:
                n_attributes += 1
                if n_attributes > self.limits.attributes:
                    raise ModelTooLarge(
                        f"operator '{raw.name}' has more than {self.limits.attributes} attributes; check the "
                        "file's source or raise Limits.attributes"
                    )
                self._attribute(raw, a, b, depth)
            elif number == 4:
                raw.op_type = text(a, b)
            elif number == 3:
                raw.name = text(a, b)
            elif number == 7:
                raw.domain = text(a, b)
        if raw.domain == "ai.onnx":
            raw.domain = ""
        if len(raw.inputs) + len(raw.outputs) > self.limits.inputs:
            raise ModelTooLarge(
                f"operator '{raw.name}' has more than {self.limits.inputs} inputs and outputs; check the "
                "file's source or raise Limits.inputs"
            )
        if not raw.op_type:
            raise ModelMalformed(f"operator '{raw.name}' has no type: export the model again")
        return raw

    def _attribute(self, node: RawNode, start: int, stop: int, depth: int) -> None:
        # Networks repeat few attributes many times, byte by byte: each is parsed once.
        key = self.buf[start:stop] if stop - start <= _SHARED_BYTES else b""
        parsed = self._attributes.get(key)
        if parsed is None:
            parsed = parse_attribute(self, start, stop)
            if key and not parsed.graphs:
                self._attributes[key] = parsed
        name = parsed.name
        if name in node.attributes or name in node.tensors or name in node.graphs:
            raise ModelMalformed(
                f"operator '{node.name}' ({node.op_type}) has the attribute '{name}' twice: export it again"
            )
        if parsed.value is not None:
            node.attributes[name] = parsed.value
        if parsed.tensor is not None:
            node.tensors[name] = parsed.tensor
        for index, span in enumerate(parsed.graphs):
            node.graphs[name if not index else f"{name}[{index}]"] = self.graph(*span, depth + 1)

    def value_info(self, span: Span) -> RawValueInfo:
        """ValueInfoProto at ``span``. ``elem_type`` is 0 and ``shape`` None where it is no tensor."""
        buf, budget = self.buf, self.budget
        name = ""
        elem_type = 0
        shape: tuple[int | str | None, ...] | None = None
        for number, kind, a, b in fields(buf, *span, budget):
            if number == 1 and kind == BYTES:
                name = self.text(a, b)
            elif number == 2 and kind == BYTES:
                for n2, k2, a2, b2 in fields(buf, a, b, budget):
                    if n2 == 1 and k2 == BYTES:
                        elem_type, shape = self._tensor_type(a2, b2)
        return RawValueInfo(name, elem_type, shape, span)

    def _tensor_type(self, start: int, stop: int) -> tuple[int, tuple[int | str | None, ...] | None]:
        elem_type = 0
        shape: list[int | str | None] | None = None
        for number, kind, a, b in fields(self.buf, start, stop, self.budget):
            if number == 1 and kind == VARINT:
                elem_type = a
            elif number == 2 and kind == BYTES:
                shape = []
                for n2, k2, a2, b2 in fields(self.buf, a, b, self.budget):
                    self.expect(n2 == 1 and k2 == BYTES, "shape")
                    shape.append(self._dimension(a2, b2))
                    if len(shape) > self.limits.rank:
                        raise ModelTooLarge(f"a shape has more than {self.limits.rank} dimensions")
        return elem_type, None if shape is None else tuple(shape)

    def _dimension(self, start: int, stop: int) -> int | str | None:
        size: int | str | None = None
        for number, kind, a, b in fields(self.buf, start, stop, self.budget):
            if number == 1 and kind == VARINT:
                size = signed(a)
            elif number == 2 and kind == BYTES:
                symbol = self.text(a, b)
                size = None if symbol in ("", "?") else symbol  # Paddle writes "?" for unrelated dimensions
        return size

    def _value_name(self, start: int, stop: int) -> str:
        for number, kind, a, b in fields(self.buf, start, stop, self.budget):
            if number == 1 and kind == BYTES:
                return self.text(a, b)
        raise ModelMalformed("a graph input or output has no name: export the model again")

    def _opset(self, start: int, stop: int) -> tuple[str, int]:
        domain, version = "", 0
        for number, kind, a, b in fields(self.buf, start, stop, self.budget):
            if number == 1 and kind == BYTES:
                domain = self.text(a, b)
            elif number == 2 and kind == VARINT:
                version = signed(a)
        return "" if domain == "ai.onnx" else domain, version
