"""Reading a model: an ONNX file becomes a graph with static shapes, and a model bound to them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sectum.errors import (
    ModelMalformed,
    ModelTooLarge,
    ModelUnreadable,
    OperatorUnsupported,
    ShapeInconsistent,
)
from sectum.graph.binding import Binding, Rebatch, Rewrite, at_batch_one, bind
from sectum.graph.bound_model import Chunk, bound_chunks
from sectum.graph.external_data import ExternalRange, locate
from sectum.graph.ir import AttributeValue, Graph, Operator, Tensor, TensorKind
from sectum.graph.limits import Limits
from sectum.graph.network import Declared, Network, in_order
from sectum.graph.onnx_format import Parser, RawModel, RawNode, RawValueInfo
from sectum.graph.raw_tensor import DTYPES
from sectum.graph.shapes import Facts
from sectum.graph.site import Shape, Typed

_DEFAULT = Limits()


@dataclass(frozen=True)
class Model:
    """A model that was read: its graph with static shapes, and the ONNX bytes that say the same.

    Attributes:
        name: file name without its ending, or the graph's own name for a model given as bytes.
        graph: the network with static shapes, operators as in the file.
    """

    name: str
    graph: Graph
    _source: bytes = field(repr=False)
    _raw: RawModel = field(repr=False)
    _nodes: list[RawNode] = field(repr=False)
    _rewrites: list[Rewrite] = field(repr=False)
    _external: Mapping[str, ExternalRange] = field(repr=False)
    _as_read: bool = field(repr=False)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the source bytes, in hexadecimal; weights in other files are not part of it."""
        return hashlib.sha256(self._source).hexdigest()

    def bound_bytes(self) -> bytes:
        """ONNX model with the shapes bound and external weights taken in: what is to be run.

        Raises:
            ModelTooLarge: over the 2 GiB that an ONNX file can hold.
            ModelError: weights in other files can no longer be read.
        """
        return self._source if self._as_read else b"".join(self._chunks())

    def write_bound(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`bound_bytes` to a file.

        Raises:
            ModelTooLarge: over the 2 GiB that an ONNX file can hold.
            ModelError: weights in other files can no longer be read.
            OSError: the file cannot be written.
        """
        chunks: list[Chunk] = [self._source] if self._as_read else self._chunks()
        with Path(path).open("wb") as file:
            file.writelines(chunks)

    def _chunks(self) -> list[Chunk]:
        tensors = self.graph.tensors
        inputs, outputs = (
            {name: (tensors[name].shape, tensors[name].dtype) for name in names}
            for names in (self.graph.inputs, self.graph.outputs)
        )
        return bound_chunks(self._source, self._raw, self._nodes, inputs, outputs, self._rewrites, self._external)


def read(
    source: str | os.PathLike[str] | bytes,
    *,
    batch: int | None = None,
    inputs: Mapping[str, tuple[int, ...]] | None = None,
    limits: Limits = _DEFAULT,
) -> Model:
    """Read an ONNX model, which need not be trusted, and find the shape of every tensor in it.

    Args:
        source: path of the file, or its bytes.
        batch: first dimension of the inputs. A batch that the file fixes is changed to it throughout.
        inputs: shapes by input name, for dimensions that the file leaves open.
        limits: what the model may ask for.

    Raises:
        ModelUnreadable: no such file, or not a regular file.
        ModelMalformed: not a valid ONNX model.
        ModelTooLarge: over a limit.
        ModelUnsafe: it refers to files outside its folder.
        ShapeUnbound: a dimension of an input has no value.
        ShapeInconsistent: shapes contradict each other, or depend on the input's values.
        UsageError: ``batch`` or ``inputs`` make no sense for this model.
    """
    buf, folder, name = _load(source, limits)
    parser = Parser(buf, limits)
    raw = parser.model()
    _refuse_exotic(raw)
    initialisers = {tensor.name for tensor in raw.graph.initialisers}
    declared = [parser.value_info(span) for n, span in raw.graph.inputs if n not in initialisers]
    dtypes = {info.name: _dtype(info) for info in declared}
    if len(dtypes) != len(declared):
        raise ModelMalformed("two inputs of the graph have the same name: export the model again")
    nodes = in_order(raw.graph, dtypes)
    external = {t.name: locate(t, folder) for t in raw.graph.initialisers if t.external is not None}
    binding = bind(declared, batch, inputs)
    network = Network(parser, raw, nodes)
    facts, placed, rewrites = _shapes(network, parser, raw, binding, declared, dtypes)
    outputs = [n for n, _ in raw.graph.outputs]
    if not outputs or len(set(outputs)) != len(outputs):
        raise ModelMalformed("the graph has no outputs, or one of them twice: export the model again")
    graph = _graph(name or raw.graph.name or "model", raw, placed, facts, tuple(dtypes), tuple(outputs))
    as_read = (
        nodes is raw.graph.nodes
        and not external
        and not rewrites
        and (raw.ir_version < 4 or len(declared) == len(raw.graph.inputs))
        and all(info.shape == facts.types[info.name][0] for info in declared)
        and all(parser.value_info(span).shape == facts.types[n][0] for n, span in raw.graph.outputs)
    )
    return Model(graph.name, graph, buf, raw, nodes, rewrites, external, as_read)


def _shapes(
    network: Network,
    parser: Parser,
    raw: RawModel,
    binding: Binding,
    declared: list[RawValueInfo],
    dtypes: Mapping[str, str],
) -> tuple[Facts, list[RawNode], list[Rewrite]]:
    def typed(shapes: Mapping[str, Shape]) -> dict[str, Typed]:
        return {name: (shape, dtypes[name]) for name, shape in shapes.items()}

    stated = Declared(parser, raw.graph, binding.symbols)
    before = binding.original
    if before is None:
        try:
            facts, placed = network.run(typed(binding.shapes), stated)
        except ShapeInconsistent:
            # Exporters leave a batch of 1 in shape constants although the input's batch is open.
            before = at_batch_one(declared, binding)
            if before is None:
                raise
        else:
            _check_declared(parser, raw, facts)
            return facts, placed, []
    old, _ = network.run(typed(before), stated)
    rebatch = Rebatch(old, before, binding.shapes)
    facts, placed = network.run(typed(binding.shapes), {}, rebatch)
    rebatch.check_outputs(facts, [name for name, _ in raw.graph.outputs])
    return facts, placed, rebatch.rewrites


def _check_declared(parser: Parser, raw: RawModel, facts: Facts) -> None:
    for name, span in raw.graph.outputs:
        info = parser.value_info(span)
        shape, dtype = facts.types[name]
        if info.elem_type and DTYPES.get(info.elem_type) != dtype:
            raise ModelMalformed(
                f"output '{name}' is declared as {DTYPES.get(info.elem_type, info.elem_type)} and is "
                f"{dtype}: export the model again"
            )
        if info.shape is not None and (
            len(info.shape) != len(shape)
            or any(isinstance(d, int) and d > 0 and d != s for d, s in zip(info.shape, shape, strict=True))
        ):
            raise ShapeInconsistent(
                f"output '{name}' is declared with shape {list(info.shape)} and comes out as {list(shape)}: "
                "check the input shapes that you gave, or export the model again"
            )


def _load(source: str | os.PathLike[str] | bytes, limits: Limits) -> tuple[bytes, Path | None, str]:
    if isinstance(source, bytes):
        _check_size(len(source), "the model", limits)
        return source, None, ""
    path = Path(source)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb", buffering=0) as file:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise ModelUnreadable(f"'{path}' is not a regular file: give the path of an ONNX file")
            _check_size(info.st_size, f"'{path}'", limits)
            parts = []
            left = info.st_size
            while left and (part := file.read(left)):
                parts.append(part)
                left -= len(part)
    except (OSError, ValueError) as problem:  # ValueError: a zero byte in the path
        reason = problem.strerror if isinstance(problem, OSError) else str(problem)
        raise ModelUnreadable(f"'{path}' cannot be read ({reason}): give the path of an ONNX file") from None
    return parts[0] if len(parts) == 1 else b"".join(parts), path.parent, path.stem


def _check_size(n_bytes: int, what: str, limits: Limits) -> None:
    if n_bytes == 0:
        raise ModelMalformed(f"{what} is empty: an ONNX model was expected")
    if n_bytes > limits.file_bytes:
        raise ModelTooLarge(
            f"{what} has {n_bytes} bytes; the limit is {limits.file_bytes}. Keep the weights in a separate "
            "file beside it (external data), or raise Limits.file_bytes"
        )


def _refuse_exotic(raw: RawModel) -> None:
    if not 1 <= raw.ir_version <= 64:
        raise ModelMalformed(f"the file's IR version is {raw.ir_version}: not an ONNX model, or a damaged one")
    for domain, version in raw.opsets.items():
        if not 1 <= version <= 1000:
            raise ModelMalformed(
                f"the file uses version {version} of the operator set '{domain or 'ai.onnx'}', which does "
                "not exist: export the model again"
            )
    if raw.graph.sparse:
        raise OperatorUnsupported(
            "the model has sparse initialisers, whose cost is not modelled: store the weights as dense tensors"
        )


def _dtype(info: RawValueInfo) -> str:
    dtype = DTYPES.get(info.elem_type)
    if dtype is None:
        raise ModelMalformed(
            f"input '{info.name}' is no tensor of a type that Sectum knows: a network's inputs must be "
            "tensors of numbers"
        )
    return dtype


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
