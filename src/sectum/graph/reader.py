"""Reading a model: an ONNX file is parsed once, and bound to the shapes of its inputs."""

from __future__ import annotations

import os
from collections.abc import Mapping

from sectum.errors import ModelMalformed, OperatorUnsupported
from sectum.graph.external_data import locate
from sectum.graph.limits import Limits
from sectum.graph.model_file import load
from sectum.graph.onnx_format import Parser, RawModel, RawValueInfo
from sectum.graph.operator_order import in_order
from sectum.graph.parsed_model import Model, ParsedModel
from sectum.graph.raw_tensor import DTYPES

_DEFAULT = Limits()


def read(
    source: str | os.PathLike[str] | bytes,
    *,
    batch: int | None = None,
    inputs: Mapping[str, tuple[int, ...]] | None = None,
    limits: Limits = _DEFAULT,
) -> Model:
    """Parse an ONNX model, which need not be trusted, and find the shape of every tensor in it.

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
    return parse(source, limits=limits).bind(batch=batch, inputs=inputs)


def parse(
    source: str | os.PathLike[str] | bytes, *, limits: Limits = _DEFAULT, weights_elsewhere: bool = False
) -> ParsedModel:
    """Parse an ONNX model, which need not be trusted, to be bound to one or more shapes of its inputs.

    Args:
        source: path of the file, or its bytes.
        limits: what the model may ask for.
        weights_elsewhere: do not look for weights in other files. Their shapes are known, but the model cannot be run.

    Raises:
        ModelUnreadable: no such file, or not a regular file.
        ModelMalformed: not a valid ONNX model.
        ModelTooLarge: over a limit.
        ModelUnsafe: it refers to files outside its folder.
    """
    file = load(source, limits)
    parser = Parser(file.buf, limits)
    raw = parser.model()
    _refuse_unknown(raw)
    initialisers = {tensor.name for tensor in raw.graph.initialisers}
    inputs = [parser.value_info(span) for name, span in raw.graph.inputs if name not in initialisers]
    for info in inputs:
        _check_type(info)
    names = {info.name for info in inputs}
    if len(names) != len(inputs):
        raise ModelMalformed("two inputs of the graph have the same name: export the model again")
    outputs = [name for name, _ in raw.graph.outputs]
    if not outputs or len(set(outputs)) != len(outputs):
        raise ModelMalformed("the graph has no outputs, or one of them twice: export the model again")
    nodes = in_order(raw.graph, names)
    folder = file.path.parent if file.path else None
    stored = [] if weights_elsewhere else [t for t in raw.graph.initialisers if t.external is not None]
    external = {t.name: locate(t, folder) for t in stored}
    return ParsedModel(file, parser, raw, nodes, inputs, external)


def _refuse_unknown(raw: RawModel) -> None:
    if not 1 <= raw.ir_version <= 64:
        raise ModelMalformed(f"the file's IR version is {raw.ir_version}: not an ONNX model, or a damaged one")
    version = raw.opsets.get("", 1)  # that of a domain that no operator uses may be anything
    if not 1 <= version <= 1000:
        raise ModelMalformed(
            f"the file uses version {version} of the operator set 'ai.onnx', which does not exist: export the model "
            "again"
        )
    if raw.graph.sparse:
        raise OperatorUnsupported(
            "the model has sparse initialisers, whose cost is not modelled: store the weights as dense tensors"
        )


def _check_type(info: RawValueInfo) -> None:
    if info.elem_type not in DTYPES:
        raise ModelMalformed(
            f"input '{info.name}' is no tensor of a type that Sectum knows: a network's inputs must be "
            "tensors of numbers"
        )
