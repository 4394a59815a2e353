"""Cuts a written graph into stages: a model for each, whose inputs and outputs are the values that cross its ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from sectum.enclave.streaming.matching import ExecutedGraph, Read, in_order_of
from sectum.enclave.streaming.node_order import file_order
from sectum.enclave.streaming.strip_models import Form, form_of, strip_nodes
from sectum.enclave.streaming.strips import Strips
from sectum.enclave.streaming.written_graph import WrittenGraph, names_read, values_of

_BLOCKED = "com.microsoft.nchwc"
_NUMBERS = frozenset(
    {
        TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.INT16,
        TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32,
        TensorProto.UINT64, TensorProto.BOOL,
    }
)  # fmt: skip
"""Element types that numpy has: weights of these can lie where the enclave wants them."""


_NAMES = {"float32": "FLOAT", "float64": "DOUBLE"}
"""ONNX's names of element types that are not numpy's in capitals."""


_FEW_VALUES = 64
_UNKNOWN = -1
"""The position of an operator that the plan does not know."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Consecutive operators, or a part of one.

    Attributes:
        first: index of the first operator, in the runtime's order.
        last: index of the last operator.
        channels: where the stage is a part of one operator, its output channels: from, and up to but without.
        streamed: whether the weights are sealed outside and opened just before use.
        int8: whether they are stored as int8 there, where they are float32.
        strips: where it runs strip by strip, how; else None.
    """

    first: int
    last: int
    channels: tuple[int, int] | None
    streamed: bool
    int8: bool = False
    strips: Strips | None = None


@dataclass(frozen=True, slots=True)
class StageModel:
    """A stage, or a strip of one, as the runtime gets it.

    Attributes:
        model: serialised ONNX model, its weights inside.
        inputs: names of the values that it reads.
        outputs: names of the values that it makes and others read.
        weights: values of those weights that its kernels read where they are.
        only_floats: whether all its weights of more than a few values are float32, and so what kernels pack of them.
    """

    model: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: Mapping[str, NDArray[np.generic]]
    only_floats: bool


@dataclass(frozen=True, slots=True)
class StripModels:
    """A stage that runs strip by strip.

    Attributes:
        models: one for each form of a strip; all have the same weights.
        forms: for each strip, the number of its model.
        names: of the sources, of what each strip reads as a whole, and of the results.
    """

    models: Sequence[StageModel]
    forms: Sequence[int]
    names: tuple[Sequence[str], Sequence[str], Sequence[str]]


class Cutter:
    """Cuts one written graph.

    Args:
        written: the graph.
        executed: what the plan knows of it.
        stages: of the plan, in order.

    Raises:
        ValueError: the runtime executes other operators than the plan knows, or the stages do not cover them.
    """

    def __init__(self, written: WrittenGraph, executed: ExecutedGraph, stages: Sequence[Stage]) -> None:
        self._written, self._executed, self._stages = written, executed, stages
        graph = written.graph
        self._matched = in_order_of(executed, written.nodes, [value.name for value in written.inputs])
        self._nodes = self._matched.nodes
        self._check_cover()
        self._types: dict[str, ValueInfoProto] = {value.name: value for value in graph.input}
        for node, outputs in zip(self._nodes, executed.outputs, strict=True):
            if node is None:
                continue
            for name, (dtype, shape) in zip(node.output, outputs, strict=False):
                if name:
                    kind = TensorProto.DataType.Value(_NAMES.get(dtype, dtype.upper()))
                    known = list(shape) if self._matched.exact else None  # else it may be that before a transpose
                    self._types[name] = helper.make_tensor_value_info(name, kind, known)
        for position in sorted(self._matched.others):
            for node in self._matched.others[position]:
                kind = self._types[node.input[0]].type.tensor_type.elem_type
                self._types[node.output[0]] = helper.make_tensor_value_info(node.output[0], kind, None)
        self._results = [value.name for value in graph.output]
        self._parts = [self._nodes_of(stage) for stage in stages]
        self.last_read = self._last_reads()

    def _check_cover(self) -> None:
        following = (0, 0)  # operator, channel
        for stage in self._stages:
            whole = stage.channels is None
            start = (stage.first, 0 if stage.channels is None else stage.channels[0])
            if start != following or not stage.first <= stage.last < len(self._nodes):
                raise ValueError(f"a stage begins with operator {stage.first}, where {following[0]} comes next")
            if stage.channels is not None and stage.channels[1] < self._channels(stage.first):
                following = (stage.first, stage.channels[1])
            else:
                following = (stage.last + 1, 0)
            if not whole and stage.first != stage.last:
                raise ValueError("a stage with channels is a part of one operator")
        if following != (len(self._nodes), 0):
            raise ValueError(f"the stages end before operator {following[0]} of {len(self._nodes)}")

    def _channels(self, index: int) -> int:
        shape = self._executed.outputs[index][0][1]
        return int(shape[1] if self._node(index).domain == _BLOCKED else shape[-1])

    def _node(self, index: int) -> NodeProto:
        """An operator of the plan that the runtime has.

        Raises:
            ValueError: it has not.
        """
        node = self._nodes[index]
        if node is None:
            raise ValueError(f"the runtime has no operator {index} of the plan")
        return node

    def _others(self, index: int) -> list[tuple[int, NodeProto]]:
        return [(_UNKNOWN, node) for node in self._matched.others.get(index, ())]

    # Which operators a stage runs.

    def _nodes_of(self, stage: Stage) -> list[tuple[int, NodeProto]]:
        """Its operators, each with its position; parts of an operator are joined by the stage of the last part."""
        if stage.channels is None:
            whole: list[tuple[int, NodeProto]] = []
            for index in range(stage.first, stage.last + 1):
                known = self._nodes[index]
                whole += [] if known is None else [(index, known)]
                whole += self._others(index)
            return whole
        node, (begin, end) = self._node(stage.first), stage.channels
        made = self._part(stage.first, node, begin, end)
        if end == self._channels(stage.first):
            names = [_part_name(node.output[0], one.channels) for one in self._stages if one.first == stage.first]
            axis = 1 if node.domain == _BLOCKED else len(self._executed.outputs[stage.first][0][1]) - 1
            joined = helper.make_node("Concat", names, [node.output[0]], name=f"{node.name} joined", axis=axis)
            made += [(stage.first, joined), *self._others(stage.first)]
        for name in node.output[:1]:
            of_part = ValueInfoProto()
            of_part.CopyFrom(self._types[name])
            of_part.name = _part_name(name, stage.channels)
            of_part.type.tensor_type.ClearField("shape")
            self._types[of_part.name] = of_part
        return made

    def _part(self, index: int, node: NodeProto, begin: int, end: int) -> list[tuple[int, NodeProto]]:
        """A part of an operator: some of its output channels."""
        part = NodeProto()
        part.CopyFrom(node)
        part.name = f"{node.name} {begin}:{end}"
        part.output[0] = _part_name(node.output[0], (begin, end))
        before = []
        for position, name in enumerate(node.input):
            if position == 0 or not name:
                continue
            if self._written.is_weight(name):
                part.input[position] = _sliced_name(name, begin, end)
            elif node.domain == _BLOCKED and position == 3:  # what the kernel adds to its result
                part.input[position] = f"{name} {begin}:{end}"
                bounds = [f"{part.name} {what}" for what in ("from", "to", "axis")]
                for bound, value in zip(bounds, (begin, end, 1), strict=True):
                    constant = helper.make_tensor(bound, TensorProto.INT64, [1], [value])
                    before.append(helper.make_node("Constant", [], [bound], value=constant))
                before.append(helper.make_node("Slice", [name, *bounds], [part.input[position]]))
            else:
                raise ValueError(f"operator {index} ({node.op_type}) cannot be divided by channels")
        return [(index, one) for one in (*before, part)]

    def _sliced(self, name: str, index: int, begin: int, end: int) -> TensorProto:
        """The part of an operator's weight that belongs to some of its output channels."""
        node = self._node(index)
        values = self._written.values(name)
        channels = self._channels(index)
        attributes: dict[str, AttributeProto] = {attribute.name: attribute for attribute in node.attribute}
        position = list(node.input).index(name)
        if values.size == 1:
            return numpy_helper.from_array(values, _sliced_name(name, begin, end))
        if node.domain == _BLOCKED:
            axis = 0
        elif position == 1 and "transB" in attributes and attributes["transB"].i:
            axis = values.ndim - 2
        else:
            axis = values.ndim - 1
        if values.shape[axis] != channels:
            raise ValueError(f"operator {index} ({node.op_type}) cannot be divided by channels")
        cut = np.ascontiguousarray(values[(slice(None),) * axis + (slice(begin, end),)])
        return numpy_helper.from_array(cut, _sliced_name(name, begin, end))

    # Which values cross.

    def _last_reads(self) -> dict[str, int]:
        last: dict[str, int] = {}
        for number, nodes in enumerate(self._parts):
            for _, node in nodes:
                for name in names_read(node):
                    last[name] = number
        return last | dict.fromkeys(self._results, len(self._parts))

    def crossing(self, number: int) -> tuple[str, ...]:
        """Names of the values that a stage and those after it read of those before, by name.

        Results of the network that earlier stages make are among them.
        """
        made = {value.name for value in self._written.inputs}
        for nodes in self._parts[:number]:
            made.update(name for _, node in nodes for name in node.output if name)
        return tuple(sorted(name for name in made if self.last_read.get(name, -1) >= number))

    # The models.

    def model(self, number: int) -> StageModel:
        """The model of one stage that runs at once."""
        nodes = self._parts[number]
        outputs = [name for _, node in nodes for name in node.output if name and self.last_read.get(name, -1) > number]
        return self._model(number, nodes, outputs, {})

    def strips_of(self, number: int) -> StripModels:
        """The models of a stage that runs strip by strip.

        Raises:
            ValueError: the runtime has other operators there than the plan, or they cannot run so.
        """
        strips, nodes = self._strips(number), [node for _, node in self._parts[number]]
        sources = [self._name(source.tensor) for source in strips.sources]
        shapes = self._shapes() | {name: source.shape for name, source in zip(sources, strips.sources, strict=True)}
        results = [nodes[result.operator].output[0] for result in strips.results]
        made = {name for node in nodes for name in node.output}
        read = dict.fromkeys(
            name for node in nodes for name in node.input if name and not self._written.is_weight(name)
        )
        first = self._stages[number].first
        forms: dict[Form, int] = {}
        models: list[StageModel] = []
        numbers: list[int] = []
        for strip in strips.strips:
            form = form_of(strip, nodes, sources)
            if form not in forms:
                forms[form] = len(models)
                own = strip_nodes(strips, strip, nodes, sources, shapes, self._written.opset)
                sizes = {
                    name: (*shapes[name][:2], end - begin, *shapes[name][3:])
                    for name, (begin, end) in zip(sources, strip.sources, strict=True)
                }
                placed = [(_UNKNOWN if place is None else first + place, node) for place, node in own]
                models.append(self._model(number, placed, results, sizes))
            numbers.append(forms[form])
        wholes = [name for name in read if name not in made and name not in sources]
        return StripModels(models, numbers, (sources, wholes, results))

    def _strips(self, number: int) -> Strips:
        stage, nodes = self._stages[number], self._parts[number]
        strips = stage.strips
        if strips is None or stage.channels is not None:
            raise ValueError(f"stage {number} does not run strip by strip")
        places = [index for index, _ in nodes]
        if places != list(range(stage.first, stage.last + 1)) or len(strips.outer) != len(nodes):
            raise ValueError(
                f"the runtime has other operators in stage {number} than the plan, so it cannot run strip by strip"
            )
        return strips

    def _name(self, read: Read) -> str:
        if isinstance(read, str):
            return read
        if read is None:
            raise ValueError("strips read what nobody makes")
        name: str = self._node(read[0]).output[read[1]]
        return name

    def _shapes(self) -> dict[str, Sequence[int]]:
        """Shapes of what operators make."""
        return {
            name: shape
            for node, outputs in zip(self._nodes, self._executed.outputs, strict=True) if node is not None
            for name, (_, shape) in zip(node.output, outputs, strict=False)
        }  # fmt: skip

    def _model(
        self,
        number: int,
        nodes: Sequence[tuple[int, NodeProto]],
        outputs: Sequence[str],
        sizes: Mapping[str, Sequence[int]],
    ) -> StageModel:
        """A model of some operators; inputs of other sizes than the whole tensors have these."""
        stage = self._stages[number]
        made: set[str] = set()
        inputs: dict[str, None] = {}
        weights: dict[str, TensorProto] = {}
        in_place: set[str] = set()
        for index, node in nodes:
            packed = () if index == _UNKNOWN else self._executed.packed[index]
            for name in names_read(node):
                if name in made:
                    continue
                weight = self._weight(name, stage)
                if weight is None:
                    inputs[name] = None
                    continue
                weights[name] = weight
                positions = [position for position, read in enumerate(node.input) if read == name]
                if not positions or any(position not in packed for position in positions):
                    in_place.add(name)
            made.update(filter(None, node.output))
        graph = GraphProto(name=f"stage {number}")
        graph.node.extend(_in_file_order([node for _, node in nodes]))
        graph.input.extend(_resized(self._types[name], sizes.get(name)) for name in inputs)
        graph.output.extend(_resized(self._types[name], ()) if sizes else self._types[name] for name in outputs)
        graph.initializer.extend(weights.values())
        return StageModel(
            model=self._written.model_of(graph),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            weights={name: values_of(weights[name]) for name in in_place if weights[name].data_type in _NUMBERS},
            only_floats=all(
                one.data_type == TensorProto.FLOAT for one in weights.values() if math.prod(one.dims) > _FEW_VALUES
            ),
        )

    def _weight(self, name: str, stage: Stage) -> TensorProto | None:
        if self._written.is_weight(name):
            return self._written.weight(name)
        if stage.channels is not None:
            begin, end = stage.channels
            for whole in self._node(stage.first).input:
                if whole and self._written.is_weight(whole) and name == _sliced_name(whole, begin, end):
                    return self._sliced(whole, stage.first, begin, end)
        return None


def _part_name(name: str, channels: tuple[int, int] | None) -> str:
    begin, end = channels or (0, 0)
    return f"{name} part {begin}:{end}"


def _sliced_name(name: str, begin: int, end: int) -> str:
    return f"{name} channels {begin}:{end}"


def _resized(value: ValueInfoProto, shape: Sequence[int] | None) -> ValueInfoProto:
    """The type of a value with another shape: none at all where it is empty, the same where it is None."""
    if shape is None:
        return value
    made = ValueInfoProto()
    made.CopyFrom(value)
    made.type.tensor_type.ClearField("shape")
    for size in shape:
        made.type.tensor_type.shape.dim.add().dim_value = size
    return made


def _in_file_order(nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """Operators in the order in which a file has to have them so that the runtime executes them as they are."""
    makers = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    reads = [[makers[name] for name in names_read(node) if name in makers] for node in nodes]
    return [nodes[place] for place in file_order(reads)]


def constants(written: WrittenGraph) -> dict[str, NDArray[np.generic]]:
    """Outputs of the graph that are known before the first inference."""
    return {
        value.name: values_of(written.weight(value.name))
        for value in written.graph.output
        if written.is_weight(value.name)
    }
