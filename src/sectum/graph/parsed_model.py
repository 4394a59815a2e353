"""A model that was parsed once: bound to the shapes of its inputs, as often as wanted, it gives a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from sectum.errors import ModelMalformed, ShapeInconsistent
from sectum.graph.binding import Binding, Rebatch, Rewrite, at_batch_one, bind
from sectum.graph.bound_model import Chunk, bound_chunks
from sectum.graph.external_data import ExternalRange
from sectum.graph.inference_context import Shape, Typed
from sectum.graph.ir import AttributeValue, Graph, Operator, Tensor, TensorKind
from sectum.graph.model_file import ModelFile
from sectum.graph.onnx_format import Parser, RawModel, RawNode, RawValueInfo
from sectum.graph.raw_tensor import DTYPES
from sectum.graph.shape_inference import ShapeInference
from sectum.graph.shapes import Facts, nothing_stated


class ParsedModel:
    """A model's file, parsed. Binding it to shapes reads nothing from the file again.

    Args:
        file: its bytes.
        parser: the one that parsed it.
        raw: what was parsed.
        nodes: the operators, in an order in which they can run.
        inputs: those that are no initialisers.
        external: where weights in other files lie.
    """

    def __init__(
        self,
        file: ModelFile,
        parser: Parser,
        raw: RawModel,
        nodes: list[RawNode],
        inputs: list[RawValueInfo],
        external: Mapping[str, ExternalRange],
    ) -> None:
        self._file, self._parser, self._raw, self._nodes = file, parser, raw, nodes
        self._inputs, self._external = inputs, external
        self._outputs = [replace(parser.value_info(span), name=name) for name, span in raw.graph.outputs]
        self._dtypes = {info.name: DTYPES[info.elem_type] for info in inputs}
        self._inference = ShapeInference(parser, raw, nodes)
        self._latest: tuple[Mapping[str, Shape], Mapping[str, int], tuple[Facts, list[RawNode]]] | None = None

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the source bytes, in hexadecimal; weights in other files are not part of it.

        Raises:
            ModelUnreadable: the file is not what it was when it was parsed.
        """
        return self._file.sha256()

    def bind(self, *, batch: int | None = None, inputs: Mapping[str, tuple[int, ...]] | None = None) -> Model:
        """Find the shape of every tensor.

        Args:
            batch: first dimension of the inputs. A batch that the file fixes is changed to it throughout.
            inputs: shapes by input name, for dimensions that the file leaves open.

        Raises:
            ModelMalformed: an operator has wrong attributes, types or inputs.
            ModelTooLarge: over a limit.
            ShapeUnbound: a dimension of an input has no value.
            ShapeInconsistent: shapes contradict each other, or depend on the input's values.
            UsageError: ``batch`` or ``inputs`` make no sense for this model.
        """
        facts, placed, rewrites = self._infer(bind(self._inputs, batch, inputs))
        outputs = tuple(info.name for info in self._outputs)
        name = (self._file.path.stem if self._file.path else "") or self._raw.graph.name or "model"
        return Model(self, _graph(name, self._raw, placed, facts, tuple(self._dtypes), outputs), rewrites)

    def _infer(self, binding: Binding) -> tuple[Facts, list[RawNode], list[Rewrite]]:
        before = binding.original
        if before is None:
            try:
                facts, placed = self._as_stored(binding.shapes, binding.symbols)
            except ShapeInconsistent:
                # Exporters leave a batch of 1 in shape constants although the input's batch is open.
                before = at_batch_one(self._inputs, binding)
                if before is None:
                    raise
            else:
                self._check_outputs(facts)
                return facts, placed, []
        old, _ = self._as_stored(before, binding.symbols)
        rebatch = Rebatch(old, before, binding.shapes)
        facts, placed = self._inference.run(self._typed(binding.shapes), rebatch=rebatch)
        rebatch.check_outputs(facts, [info.name for info in self._outputs])
        return facts, placed, rebatch.rewrites

    def _as_stored(self, shapes: Mapping[str, Shape], symbols: Mapping[str, int]) -> tuple[Facts, list[RawNode]]:
        """Infer without changes to shape constants; the last result is kept, since re-batching starts from it."""
        if self._latest is None or self._latest[:2] != (shapes, symbols):
            facts, placed = self._inference.run(self._typed(shapes), partial(self._stated, symbols=symbols))
            facts.stated = nothing_stated  # it refers to this object: a cycle would keep the file open
            self._latest = shapes, symbols, (facts, placed)
        return self._latest[2]

    def _typed(self, shapes: Mapping[str, Shape]) -> dict[str, Typed]:
        return {name: (shape, self._dtypes[name]) for name, shape in shapes.items()}

    def _stated(self, name: str, symbols: Mapping[str, int]) -> Typed | None:
        """Shape and type that the file states for a tensor, where they are complete."""
        info = self._value_infos.get(name)
        if info is None or info.shape is None or info.elem_type not in DTYPES:
            return None
        dims = [symbols.get(dim, -1) if isinstance(dim, str) else dim for dim in info.shape]
        shape = tuple(dim for dim in dims if dim is not None and dim >= 0)
        return (shape, DTYPES[info.elem_type]) if len(shape) == len(dims) else None

    @cached_property
    def _value_infos(self) -> Mapping[str, RawValueInfo]:
        """What the file states about tensors; parsed when it is first asked for, since few models need it."""
        infos = [*map(self._parser.value_info, self._raw.graph.value_infos), *self._outputs]
        return {info.name: info for info in infos}

    def _check_outputs(self, facts: Facts) -> None:
        for info in self._outputs:
            shape, dtype = facts.types[info.name]
            if info.elem_type and DTYPES.get(info.elem_type) != dtype:
                raise ModelMalformed(
                    f"output '{info.name}' is declared as {DTYPES.get(info.elem_type, info.elem_type)} and is "
                    f"{dtype}: export the model again"
                )
            if info.shape is not None and (
                len(info.shape) != len(shape)
                or any(isinstance(d, int) and d > 0 and d != s for d, s in zip(info.shape, shape, strict=True))
            ):
                raise ShapeInconsistent(
                    f"output '{info.name}' is declared with shape {list(info.shape)}, and inference gives "
                    f"{list(shape)}: check the input shapes that you gave, or export the model again"
                )

    def bound_chunks(self, graph: Graph, rewrites: list[Rewrite]) -> list[Chunk]:
        """ONNX model for one binding, as parts to be written one after the other.

        Raises:
            ModelTooLarge: over the 2 GiB that an ONNX file can hold.
            ModelError: the file, or weights in other files, can no longer be read.
        """
        raw = self._raw
        if (
            self._nodes is raw.graph.nodes
            and not self._external
            and not rewrites
            and (raw.ir_version < 4 or len(self._inputs) == len(raw.graph.inputs))
            and all(info.shape == graph.tensors[info.name].shape for info in (*self._inputs, *self._outputs))
        ):
            return [self._file.content()]
        inputs, outputs = (
            {name: (graph.tensors[name].shape, graph.tensors[name].dtype) for name in names}
            for names in (graph.inputs, graph.outputs)
        )
        content = self._file.content()
        return bound_chunks(content, raw, self._nodes, inputs, outputs, rewrites, self._external)


@dataclass(frozen=True)
class Model:
    """A parsed model with its shapes bound.

    Attributes:
        parsed: the model as it was parsed, to be bound to other shapes.
        graph: the network with static shapes, operators as in the file. Its name is that of the file without
            the ending, or the graph's own for a model given as bytes.
    """

    parsed: ParsedModel
    graph: Graph
    _rewrites: list[Rewrite] = field(repr=False)

    @property
    def sha256(self) -> str:
        """See :attr:`ParsedModel.sha256`."""
        return self.parsed.sha256

    def bound_bytes(self) -> bytes:
        """ONNX model with the shapes bound and external weights taken in: what is to be run.

        Raises:
            ModelTooLarge: over the 2 GiB that an ONNX file can hold.
            ModelError: the file, or weights in other files, can no longer be read.
        """
        return b"".join(self.parsed.bound_chunks(self.graph, self._rewrites))


def _graph(
    name: str,
    raw: RawModel,
    nodes: list[RawNode],
    facts: Facts,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
) -> Graph:
    tensors: dict[str, Tensor] = {}
    types, values, constants = facts.types, facts.values, facts.constants

    def add(tensor_name: str, kind: TensorKind) -> None:
        shape, dtype = types[tensor_name]
        tensors[tensor_name] = Tensor(tensor_name, shape, dtype, kind, values.get(tensor_name))

    for tensor_name in inputs:
        add(tensor_name, TensorKind.INPUT)
    operators: list[Operator] = []
    no_attributes: dict[str, AttributeValue] = {}
    for node in nodes:
        for tensor_name in (*node.inputs, *node.outputs):
            if tensor_name and tensor_name not in tensors:
                add(tensor_name, TensorKind.WEIGHT if tensor_name in constants else TensorKind.ACTIVATION)
        operators.append(
            Operator(
                node.name or next(filter(None, node.outputs), ""),
                node.op_type,
                tuple(node.inputs),
                tuple(node.outputs),
                node.attributes or no_attributes,
                node.domain,
            )
        )
    for tensor_name in outputs:
        if tensor_name not in tensors:
            add(tensor_name, TensorKind.WEIGHT if tensor_name in constants else TensorKind.ACTIVATION)
    return Graph(name, tuple(operators), tensors, inputs, outputs, raw.opsets.get("", 0))
