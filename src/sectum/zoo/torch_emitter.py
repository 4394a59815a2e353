"""Architectures as PyTorch modules, to be trained or to be compared with their ONNX models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sectum.extras import require
from sectum.zoo.architecture import Architecture

if TYPE_CHECKING:
    import torch


def to_torch(arch: Architecture, *, seed: int | None = None, like_onnx: bool = False) -> torch.nn.Module:
    """Make the network as a module, in training mode.

    It takes float32 pictures ``(batch, 3, height, width)`` of the architecture's resolution and returns
    ``(batch, classes)``, without a softmax. Its submodules and parameters have the names of the architecture's
    nodes. Batch normalisation is real. There is no dropout, since the architectures have none.

    The module is a :class:`torch.fx.GraphModule`: its ``code`` is the forward pass, to be read.

    Args:
        arch: the network.
        seed: of the weights; None for the architecture's own. The global random state is left alone.
        like_onnx: carry the weights that :func:`sectum.zoo.to_onnx` writes, so that in evaluation mode both
            compute the same; they are made up and cheap. Otherwise initial weights to train from.

    Raises:
        UsageError: PyTorch is not installed.
    """
    torch = require("torch", "making a PyTorch module needs PyTorch; sectum.zoo.to_onnx does not", "torch")
    from sectum.zoo.torch_modules import wire
    from sectum.zoo.torch_weights import initialise, load_like_onnx

    with torch.device("meta"):  # no weight is made twice
        module = wire(arch)
    seed = arch.seed if seed is None else seed
    if like_onnx:
        load_like_onnx(module, arch, seed)
    else:
        initialise(module.to_empty(device="cpu"), arch, seed)
    return module
