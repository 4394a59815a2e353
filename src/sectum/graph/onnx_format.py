"""ONNX files as they are written: a parser of the ``onnx.proto`` messages that a network's cost depends on.

The parser works on the file's bytes and keeps, for big payloads, where they lie instead of what they hold. Memory
is therefore bounded by the number of operators, however large the weights. Field numbers: ``onnx/onnx.proto`` of
ONNX 1.23.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from sectum.errors import ModelMalformed, ModelTooLarge
from sectum.graph.ir import AttributeValue
from sectum.graph.limits import Limits
from sectum.graph.raw_tensor import RawTensor, parse_tensor
from sectum.graph.wire import BYTES, FIXED32, VARINT, FieldBudget, fields, signed, varint

# AttributeProto.AttributeType
_FLOAT, _INT, _STRING, _TENSOR, _GRAPH, _FLOATS, _INTS, _STRINGS, _TENSORS, _GRAPHS = range(1, 11)

Span = tuple[int, int]


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
    """A ModelProto. ``rest`` are the fields that a rewritten model keeps as they are: operator sets, functions."""

    ir_version: int
    opsets: dict[str, int]
    functions: set[tuple[str, str]]
    graph: RawGraph
    rest: list[tuple[int, Span]]


class Parser:
    """Parses one file under limits. All methods raise ModelMalformed or ModelTooLarge."""

    def __init__(self, buf: bytes, limits: Limits) -> None:
        self.buf = buf
        self.limits = limits
        self.budget = FieldBudget(limits.fields)
        self._nodes = 0
        self._tensors = 0

    def model(self) -> RawModel:
        """The whole file."""
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
                self._expect(kind == BYTES, "graph")
                graph = self.graph(a, b, 1)
            elif number == 1:
                self._expect(kind == VARINT, "ir_version")
                ir_version = signed(a)
            elif number == 8:
                self._expect(kind == BYTES, "opset_import")
                domain, version = self._opset(a, b)
                opsets[domain] = version
                rest.append((number, (a, b)))
            elif number == 25:
                self._expect(kind == BYTES, "functions")
                functions.add(self._function(a, b))
                rest.append((number, (a, b)))
        if graph is None:
            raise ModelMalformed("the file holds no graph: it is not an ONNX model, or it is truncated")
        if not opsets:
            raise ModelMalformed("the file names no operator set (opset_import): export the model again")
        return RawModel(ir_version, opsets, functions, graph, rest)

    def graph(self, start: int, stop: int, depth: int) -> RawGraph:
        """The GraphProto in ``buf[start:stop]``."""
        limits = self.limits
        if depth > limits.nesting:
            raise ModelTooLarge(
                f"subgraphs are nested more than {limits.nesting} deep; check the file's source or raise "
                "Limits.nesting"
            )
        raw = RawGraph()
        for number, kind, a, b in fields(self.buf, start, stop, self.budget):
            if kind != BYTES:
                self._expect(number not in (1, 2, 5, 11, 12, 13, 15), f"graph field {number}")
            elif number == 1:
                self._nodes += 1
                if self._nodes > limits.nodes:
                    raise ModelTooLarge(
                        f"the model has more than {limits.nodes} operators; check its source or raise Limits.nodes"
                    )
                raw.nodes.append(self.node(a, b, depth))
            elif number == 5:
                raw.initialisers.append(self._tensor(a, b))
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
        """The NodeProto in ``buf[start:stop]``."""
        text = self.text
        raw = RawNode("", "", "", [], [], {}, {}, {}, (start, stop))
        n_attributes = 0
        for number, kind, a, b in fields(self.buf, start, stop, self.budget):
            if kind != BYTES:
                self._expect(number > 7, f"node field {number}")
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
                f"operator '{raw.name}' has more than {self.limits.inputs} inputs and outputs; check the file's "
                "source or raise Limits.inputs"
            )
        if not raw.op_type:
            raise ModelMalformed(f"operator '{raw.name}' has no type: export the model again")
        return raw

    def _attribute(self, node: RawNode, start: int, stop: int, depth: int) -> None:
        buf = self.buf
        name = ""
        declared = 0
        scalar: dict[int, AttributeValue] = {}
        tensors: list[RawTensor] = []
        graphs: list[Span] = []
        ints: list[int] = []
        floats: list[float] = []
        strings: list[str] = []
        for number, kind, a, b in fields(buf, start, stop, self.budget):
            if number == 1 and kind == BYTES:
                name = self.text(a, b)
            elif number == 20 and kind == VARINT:
                declared = a
            elif number == 3 and kind == VARINT:
                scalar[_INT] = signed(a)
            elif number == 8 and kind == VARINT:
                ints.append(signed(a))
            elif number == 8 and kind == BYTES:
                self._packed(a, b, ints)
            elif number == 2 and kind == FIXED32:
                scalar[_FLOAT] = struct.unpack_from("<f", buf, a)[0]
            elif number == 7 and kind == FIXED32:
                floats.append(struct.unpack_from("<f", buf, a)[0])
            elif number == 7 and kind == BYTES:
                self._count(name, len(floats) + (b - a) // 4)
                self._expect((b - a) % 4 == 0, "floats")
                floats.extend(struct.unpack_from(f"<{(b - a) // 4}f", buf, a))
            elif number == 4 and kind == BYTES:
                scalar[_STRING] = self._loose_text(a, b)
            elif number == 9 and kind == BYTES:
                strings.append(self._loose_text(a, b))
            elif number in (5, 10) and kind == BYTES:
                tensors.append(self._tensor(a, b))
            elif number in (6, 11) and kind == BYTES:
                graphs.append((a, b))
            else:
                self._expect(number > 11, f"attribute field {number}")
        self._count(name, max(len(ints), len(floats), len(strings)))
        if not name:
            raise ModelMalformed(f"operator '{node.name}' ({node.op_type}) has an attribute without a name")
        if name in node.attributes or name in node.tensors or name in node.graphs:
            raise ModelMalformed(f"operator '{node.name}' ({node.op_type}) has the attribute '{name}' twice")
        lists: dict[int, tuple[int, ...] | tuple[float, ...] | tuple[str, ...]] = {
            _INTS: tuple(ints), _FLOATS: tuple(floats), _STRINGS: tuple(strings),
        }  # fmt: skip
        if declared == 0:  # the oldest files do not say the type
            present = [t for t in (_INTS, _FLOATS, _STRINGS) if lists[t]]
            declared = next(iter(scalar), 0) or (_TENSOR if tensors else _GRAPH if graphs else 0)
            declared = declared or (present[0] if present else _INTS)
        if declared in (_INT, _FLOAT, _STRING):
            default: AttributeValue = {_INT: 0, _FLOAT: 0.0, _STRING: ""}[declared]
            node.attributes[name] = scalar.get(declared, default)
        elif declared in lists:
            node.attributes[name] = lists[declared]
        elif declared == _TENSOR:
            self._expect(len(tensors) == 1, f"tensor attribute '{name}'")
            node.tensors[name] = tensors[0]
        elif declared == _GRAPH:
            self._expect(len(graphs) == 1, f"graph attribute '{name}'")
            node.graphs[name] = self.graph(*graphs[0], depth + 1)
        elif declared in (_TENSORS, _GRAPHS):
            for index, span in enumerate(graphs):
                node.graphs[f"{name}[{index}]"] = self.graph(*span, depth + 1)
        elif not 11 <= declared <= 14:  # sparse tensors and types: kept in the file, no cost depends on them
            raise ModelMalformed(f"attribute '{name}' of operator '{node.name}' has the unknown type {declared}")

    def value_info(self, span: Span) -> RawValueInfo:
        """The ValueInfoProto at ``span``. ``elem_type`` is 0 and ``shape`` None where it is no tensor."""
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
                    self._expect(n2 == 1 and k2 == BYTES, "shape")
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
                size = self.text(a, b) or None
        return size

    def _tensor(self, start: int, stop: int) -> RawTensor:
        self._tensors += 1
        if self._tensors > self.limits.tensors:
            raise ModelTooLarge(
                f"the model has more than {self.limits.tensors} constant tensors; check its source or raise "
                "Limits.tensors"
            )
        return parse_tensor(self.buf, start, stop, self.budget, self.limits, self.text)

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

    def _function(self, start: int, stop: int) -> tuple[str, str]:
        name = domain = ""
        for number, kind, a, b in fields(self.buf, start, stop, self.budget):
            if number == 1 and kind == BYTES:
                name = self.text(a, b)
            elif number == 10 and kind == BYTES:
                domain = self.text(a, b)
        return domain, name

    def _packed(self, start: int, stop: int, into: list[int]) -> None:
        while start < stop:
            value, start = varint(self.buf, start, stop)
            into.append(signed(value))
            if len(into) > self.limits.attribute_elements:
                self._count("", len(into))

    def _count(self, name: str, n: int) -> None:
        if n > self.limits.attribute_elements:
            raise ModelTooLarge(
                f"attribute '{name}' lists more than {self.limits.attribute_elements} values; check the file's "
                "source or raise Limits.attribute_elements"
            )

    def text(self, start: int, stop: int) -> str:
        """The UTF-8 text in ``buf[start:stop]``."""
        if stop - start > self.limits.text_bytes:
            raise ModelTooLarge(f"a name at byte {start} is longer than {self.limits.text_bytes} bytes")
        try:
            return self.buf[start:stop].decode()
        except UnicodeDecodeError:
            raise ModelMalformed(
                f"a name at byte {start} is not UTF-8 text: the file is damaged or no ONNX model"
            ) from None

    def _loose_text(self, start: int, stop: int) -> str:
        # A string attribute may hold any bytes; no cost depends on those that are no text.
        if stop - start > self.limits.text_bytes:
            raise ModelTooLarge(
                f"a string attribute at byte {start} is longer than {self.limits.text_bytes} bytes"
            )
        return self.buf[start:stop].decode(errors="backslashreplace")

    @staticmethod
    def _expect(condition: bool, what: str) -> None:
        if not condition:
            raise ModelMalformed(f"{what} is encoded wrongly: the file is damaged or no ONNX model")

