"""What a module's weights begin as: to train from, or as in the emitted ONNX model. Importing this loads torch."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from sectum.zoo.architecture import Architecture
from sectum.zoo.layers import ChannelScale, Linear
from sectum.zoo.lowered import Weight
from sectum.zoo.lowering import lower
from sectum.zoo.weights import Tiles

LINEAR_SPREAD = 0.01  # torchvision's, of VGG, MobileNet and others, and of SqueezeNet's last convolution
LAYER_SCALE = 1e-6  # ConvNeXt's: each block begins as the identity
# SqueezeNet applies a ReLU to its class scores. A score that is always 0 gets no gradient and stays 0, and with few
# classes most do; a bias that all classes share does not change the softmax.
OPEN_BIAS = 1.0

_STATISTICS = {"running_mean": "mean", "running_var": "variance"}


def initialise(module: nn.Module, arch: Architecture, seed: int) -> None:
    """Give initial weights: He's for convolutions (fan-out), small ones for what makes the classes, no biases."""
    generator = torch.Generator().manual_seed(seed)
    parts = list(module.modules())
    last = next(part for part in reversed(parts) if isinstance(part, nn.Conv2d | nn.Linear))
    for part in parts:
        match part:
            case nn.Conv2d():
                if part is last:
                    nn.init.normal_(part.weight, 0.0, LINEAR_SPREAD, generator)
                else:
                    nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu", generator=generator)
                if part.bias is not None:
                    nn.init.constant_(part.bias, OPEN_BIAS if part is last else 0.0)
            case nn.Linear():
                nn.init.normal_(part.weight, 0.0, LINEAR_SPREAD, generator)
                nn.init.zeros_(part.bias)
            case nn.BatchNorm2d() | nn.LayerNorm():
                part.reset_parameters()  # the identity: nothing is drawn
    for node in arch.nodes:
        if isinstance(node.layer, ChannelScale):
            nn.init.constant_(module.get_parameter(f"{node.name}.weight"), LAYER_SCALE)


def load_like_onnx(module: nn.Module, arch: Architecture, seed: int) -> None:
    """Give the weights that the ONNX model of this seed has; the module may still be on the meta device."""
    # ONNX multiplies by (in, out) where a fully connected layer works on more than a vector.
    turned = {n.name for n in arch.nodes if isinstance(n.layer, Linear) and len(arch.inputs(n)[0]) > 1}
    tiles = Tiles(seed)
    emitted: dict[str, torch.Tensor] = {}
    for constant in lower(arch).constants.values():
        if isinstance(constant, Weight):
            values = np.concatenate(list(tiles.chunks(constant))).reshape(constant.shape)
            emitted[constant.name] = torch.from_numpy(values)
    state = {}
    for key in module.state_dict():
        owner, _, role = key.rpartition(".")
        if role == "num_batches_tracked":
            state[key] = torch.tensor(0)
            continue
        value = emitted[f"{owner}.{_STATISTICS.get(role, role)}"]
        state[key] = value.T.contiguous() if owner in turned and role == "weight" else value
    module.load_state_dict(state, assign=True)
