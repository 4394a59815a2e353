"""A model that was parsed once: bound to the shapes of its inputs, as often as wanted, it gives a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from types import MappingProxyType

from sectum.errors import ModelMalformed, ShapeInconsistent, ShapeUnbound
from sectum.graph.binding import Binding, Given, at_batch_one, bind
from sectum.graph.bound_model import Chunk, Probe, bound_chunks, value_info
from sectum.graph.declared_shapes import contradictions
from sectum.graph.external_data import ExternalRange
from sectum.graph.graph_building import build_graph
from sectum.graph.inference_context import Constant, Shape, ShapeUnknown, Typed
from sectum.graph.ir import Graph
from sectum.graph.missing import ask_for_values, open_lengths, rebatched
from sectum.graph.model_file import ModelFile
from sectum.graph.onnx_format import Parser, RawModel, RawNode, RawValueInfo
from sectum.graph.operator_order import operator_types, value_sources
from sectum.graph.raw_tensor import DTYPES
from sectum.graph.rebatch import Rebatch, Rewrite
from sectum.graph.shape_inference import ShapeInference
from sectum.graph.shapes import ALL_RULES, Facts, keeps_value, nothing_stated


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
        self._latest: tuple[object, tuple[Facts, list[RawNode]]] | None = None

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the source bytes, in hexadecimal; weights in other files are not part of it.

        Raises:
            ModelUnreadable: the file is not what it was when it was parsed.
        """
        return self._file.sha256()

    def bind(
        self,
        *,
        batch: int | None = None,
        inputs: Mapping[str, Given] | None = None,
        learned: Mapping[str, Typed] = MappingProxyType({}),
        branches: Mapping[str, bool] = MappingProxyType({}),
    ) -> Model:
        """Find the shape of every tensor.

        Args:
            batch: first dimension of the inputs. A batch that the file fixes is changed to it throughout.
            inputs: shapes or values by input name, for what the file leaves open.
            learned: shapes and types of tensors that a run of the model told.
            branches: conditions to assume, by the first output of the If, where values do not decide them.

        Raises:
            ModelMalformed: an operator has wrong attributes, types or inputs.
            ModelTooLarge: over a limit.
            ShapeUnbound: a dimension of an input has no value.
            ShapeUnknown: no rule tells a shape, or it depends on the input's values.
            ShapeInconsistent: shapes contradict each other.
            UsageError: ``batch`` or ``inputs`` make no sense for this model.
        """
        binding = bind(self._inputs, batch, inputs)
        facts, placed, rebatch = self._infer(binding, learned, branches)
        self._check_output_types(facts)
        outputs = tuple(info.name for info in self._outputs)
        name = (self._file.path.stem if self._file.path else "") or self._raw.graph.name or "model"
        graph = build_graph(name, placed, facts, tuple(self._dtypes), outputs, self._raw.opsets.get("", 0))
        notes = [*binding.notes, *(contradictions(self._declared, facts.types) if rebatch is None else [])]
        if not branches:
            notes += [f"If '{name[:60]}' takes its {branch} branch by the given values" for name, branch in
                      facts.taken.items()]  # fmt: skip
        return Model(self, graph, tuple(notes), binding.values, rebatch.rewrites if rebatch else [])

    def _infer(
        self, binding: Binding, learned: Mapping[str, Typed], branches: Mapping[str, bool]
    ) -> tuple[Facts, list[RawNode], Rebatch | None]:
        as_stored = partial(self._as_stored, binding, learned, branches)
        before = binding.original
        if before is None:
            try:
                return *as_stored(binding.shapes), None
            except ShapeInconsistent as problem:
                # Exporters leave a batch of 1 in shape constants although the input's batch is open.
                before = at_batch_one(self._inputs, binding)
                if before is None or isinstance(problem, ShapeUnknown):
                    raise
        old, _ = as_stored(before)
        rebatch = Rebatch(old, before, binding.shapes)
        facts, placed = self._inference.run(
            self._typed(binding.shapes), rebatch=rebatch, values=binding.values, branches=branches
        )
        rebatch.check_outputs(facts, [info.name for info in self._outputs])
        return facts, placed, rebatch

    def _as_stored(
        self,
        binding: Binding,
        learned: Mapping[str, Typed],
        branches: Mapping[str, bool],
        shapes: Mapping[str, Shape],
    ) -> tuple[Facts, list[RawNode]]:
        """Infer without changes to shape constants; the last result is kept, since re-batching starts from it."""
        values = {name: v.tobytes() for name, v in binding.values.items() if keeps_value(v.shape, v.dtype.name)}
        key = (dict(shapes), binding.symbols, values, dict(learned), dict(branches))
        if self._latest is None or self._latest[0] != key:
            stated = partial(self._stated, symbols=binding.symbols, learned=learned)
            facts, placed = self._inference.run(self._typed(shapes), stated, values=binding.values, branches=branches)
            facts.stated = nothing_stated  # it refers to this object: a cycle would keep the file open
            self._latest = key, (facts, placed)
        return self._latest[1]

    def _typed(self, shapes: Mapping[str, Shape]) -> dict[str, Typed]:
        return {name: (shape, self._dtypes[name]) for name, shape in shapes.items()}

    def _stated(self, name: str, symbols: Mapping[str, int], learned: Mapping[str, Typed]) -> Typed | None:
        """Shape and type that a run told, or that the file states, for a tensor, where they are complete."""
        if name in learned:
            return learned[name]
        info = self._value_infos.get(name)
        if info is None or info.shape is None or info.elem_type not in DTYPES:
            return None
        dims = [symbols.get(dim, -1) if isinstance(dim, str) else dim for dim in info.shape]
        shape = tuple(dim for dim in dims if dim is not None and dim >= 0)
        return (shape, DTYPES[info.elem_type]) if len(shape) == len(dims) else None

    @cached_property
    def _value_infos(self) -> Mapping[str, RawValueInfo]:
        """What the file states about tensors."""
        infos = [*map(self._parser.value_info, self._raw.graph.value_infos), *self._outputs]
        return {info.name: info for info in infos}

    @property
    def _declared(self) -> Mapping[str, list[RawValueInfo]]:
        """What the file states about outputs and about the other tensors."""
        outputs = {info.name for info in self._outputs}
        return {
            "output": self._outputs,
            "tensor": [info for name, info in self._value_infos.items() if name not in outputs],
        }

    def _check_output_types(self, facts: Facts) -> None:
        for info in self._outputs:
            _, dtype = facts.types[info.name]
            if info.elem_type and DTYPES.get(info.elem_type) != dtype:
                raise ModelMalformed(
                    f"output '{info.name}' is declared as {DTYPES.get(info.elem_type, info.elem_type)} and is "
                    f"{dtype}: export the model again"
                )

    @property
    def operator_types(self) -> Mapping[tuple[str, str], RawNode]:
        """Domains and types of the operators, those of subgraphs too, each with the first operator of the type."""
        return operator_types(self._nodes)

    def needs_batch(self, inputs: Mapping[str, Given] | None) -> bool:
        """Whether dimensions stay open without a batch."""
        try:
            bind(self._inputs, None, inputs)
        except ShapeUnbound:
            return True
        return False

    def rebatched(self, inputs: Mapping[str, Given] | None, batch: int) -> dict[str, Given]:
        """Same inputs at another batch. Values stay for inputs of rank 0 only; the others become shapes."""
        return rebatched(self._inputs, inputs or {}, batch)

    def open_lengths(self, inputs: Mapping[str, Given] | None) -> list[str]:
        """First dimensions, with their inputs, that are open, were not given and do not look like a batch."""
        return open_lengths(self._inputs, inputs or {})

    def require_values(self, tensor: str, decides: str, batch: int | None, inputs: Mapping[str, Given] | None) -> None:
        """Ask for the values of the small inputs on which the values of a tensor depend.

        Args:
            tensor: its name.
            decides: what its values decide, for the message.
            batch: as for `bind`.
            inputs: as for `bind`.

        Raises:
            ShapeUnbound: some were not given.
        """
        ask_for_values(self._inputs, bind(self._inputs, batch, inputs), value_sources(self._nodes, tensor), decides)

    def probe(self, problem: ShapeUnknown, batch: int | None, inputs: Mapping[str, Given] | None) -> Probe:
        """Prepare the run that tells shapes: of what lacks a rule, and of what operators of the problem's type make.

        Raises:
            ModelTooLarge: over the 2 GiB that an ONNX file can hold.
            ModelError: the file, or weights in other files, can no longer be read.
        """
        binding = bind(self._inputs, batch, inputs)
        known = {info.name for info in self._outputs}
        wanted = [
            name
            for node in self._nodes
            if (node.domain, node.op_type) == problem.op_type
            or (node.domain and (node.domain, node.op_type) not in ALL_RULES)
            for name in node.outputs
            if name
        ]
        content = self._file.content()
        outputs = [content[slice(*info.span)] for info in self._outputs]
        outputs += [value_info(name) for name in wanted if name not in known]
        chunks = bound_chunks(
            content, self._raw, self._nodes, self._input_infos(binding.shapes, True), outputs, [], self._external
        )
        return Probe(b"".join(chunks), {**binding.shapes, **binding.values}, frozenset(wanted))

    def _input_infos(self, shapes: Mapping[str, Shape], keep_symbols: bool) -> list[bytes]:
        """Inputs as the bound model declares them."""
        infos = []
        for info in self._inputs:
            declared = info.shape or ()
            dims = [
                dim if keep_symbols and declared and not (isinstance(dim := declared[index], int) and dim > 0) else size
                for index, size in enumerate(shapes[info.name])
            ]
            infos.append(value_info(info.name, self._dtypes[info.name], dims))
        return infos

    def bound_chunks(self, graph: Graph, rewrites: list[Rewrite], keep_symbols: bool) -> list[Chunk]:
        """ONNX model for one binding, as parts to be written one after the other.

        Args:
            graph: the network with the shapes of this binding.
            rewrites: replaced shape constants.
            keep_symbols: leave open dimensions of inputs open, because a branch that is not taken does not fit.

        Raises:
            ModelTooLarge: over the 2 GiB that an ONNX file can hold.
            ModelError: the file, or weights in other files, can no longer be read.
        """
        raw = self._raw
        if (
            self._nodes is raw.graph.nodes
            and all(tensor.external is None for tensor in raw.graph.initialisers)
            and not rewrites
            and (raw.ir_version < 4 or len(self._inputs) == len(raw.graph.inputs))
            and all(info.shape == graph.tensors[info.name].shape for info in (*self._inputs, *self._outputs))
        ):
            return [self._file.content()]
        tensors = graph.tensors
        inputs = self._input_infos({name: tensors[name].shape for name in graph.inputs}, keep_symbols)
        outputs = [value_info(name, tensors[name].dtype, tensors[name].shape) for name in graph.outputs]
        return bound_chunks(self._file.content(), raw, self._nodes, inputs, outputs, rewrites, self._external)


@dataclass(frozen=True)
class Model:
    """A parsed model with its shapes bound.

    Attributes:
        parsed: the model as it was parsed, to be bound to other shapes.
        graph: the network with static shapes, operators as in the file. Its name is that of the file without
            the ending, or the graph's own for a model given as bytes.
        notes: what a person should know about how the shapes were found.
        values: values of inputs that the caller gave.
    """

    parsed: ParsedModel
    graph: Graph
    notes: tuple[str, ...] = ()
    values: Mapping[str, Constant] = field(default_factory=dict, repr=False)
    _rewrites: list[Rewrite] = field(default_factory=list, repr=False)

    @property
    def feeds(self) -> Mapping[str, Given]:
        """What `bound_bytes` is to be fed: values that the caller gave, shapes of inputs that it leaves open."""
        shapes = {name: self.graph.tensors[name].shape for name in self.graph.inputs} if self._has_branches else {}
        return {**shapes, **self.values}

    @property
    def fixes_batch(self) -> bool:
        """Whether shape constants of the file hold another batch than the one that it was bound to."""
        return bool(self._rewrites)

    @property
    def _has_branches(self) -> bool:
        """Whether a branch that is not taken may not fit the shapes: the runtime then must not see them."""
        return any(kind == ("", "If") for kind in self.parsed.operator_types)

    @property
    def sha256(self) -> str:
        """See :attr:`ParsedModel.sha256`."""
        return self.parsed.sha256

    def bound_bytes(self) -> bytes:
        """ONNX model with external weights taken in and, unless it branches, the shapes bound: what is to be run.

        Raises:
            ModelTooLarge: over the 2 GiB that an ONNX file can hold.
            ModelError: the file, or weights in other files, can no longer be read.
        """
        return b"".join(self.parsed.bound_chunks(self.graph, self._rewrites, self._has_branches))
