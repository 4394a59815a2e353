"""Reading a PyTorch module: it is exported to ONNX and then read like any other model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sectum.errors import ModelMalformed
from sectum.extras import require
from sectum.graph.limits import Limits
from sectum.graph.parsed_model import Model
from sectum.graph.reader import read

if TYPE_CHECKING:
    import torch

_DEFAULT = Limits()


def from_torch(module: torch.nn.Module, example_inputs: tuple[Any, ...], *, limits: Limits = _DEFAULT) -> Model:
    """Export a module for inputs of the given shapes, and read it.

    The module is exported in evaluation mode, through ``torch.export``, and left in the mode in which it
    came.

    Args:
        module: the network.
        example_inputs: one tensor for each argument of ``forward``; their shapes are the graph's.
        limits: what the exported model may ask for.

    Raises:
        UsageError: PyTorch is not installed.
        ModelMalformed: PyTorch cannot export this module.
        ModelError: whatever :func:`sectum.graph.read` raises.
    """
    torch = require("torch", "reading a PyTorch module needs PyTorch; an exported ONNX file does not", "torch")
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            program = torch.onnx.export(module, example_inputs, dynamo=True, verbose=False)
    except (torch.onnx.errors.OnnxExporterError, torch._dynamo.exc.TorchDynamoException) as problem:
        cause: BaseException = problem
        while cause.__cause__ is not None:  # the exporter wraps what torch.export found
            cause = cause.__cause__
        reason = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        raise ModelMalformed(
            f"PyTorch cannot export {type(module).__name__} to ONNX: {reason}. Make its forward free of "
            "data-dependent control flow, or export it to an ONNX file by other means"
        ) from problem
    finally:
        module.train(training)
    assert program is not None
    return read(program.model_proto.SerializeToString(), limits=limits)
