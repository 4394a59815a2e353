"""SynFlow of an architecture without drawing its weights.

SynFlow (Tanaka et al. 2020, "Pruning neural networks without any data by iteratively conserving synaptic flow"; as a
score of architectures: Abdelfattah et al. 2021, "Zero-cost proxies for lightweight NAS") feeds ones through a network
whose weights are replaced by their absolute values and whose normalisations and nonlinearities are left out. With R the
sum of its outputs, the score is the sum of weight times dR/dweight over all weights.

Every path is a product of independent weights, so the expectation over initial weights, as PyTorch draws them unless
it is told otherwise, is R with each weight's mean in its place. Biases are left out. All channels that a convolution
makes are then equal: one map stands for all of them. The sum over weights is the derivative of R by a common factor
of all weights, which travels forward beside R.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sectum.errors import UsageError
from sectum.zoo import layers as ly
from sectum.zoo.architecture import Architecture, Node

Flow = NDArray[np.float64]

_LAYER_SCALE = 1e-6
"""What ConvNeXt's factors of channels begin as."""


def _mean_weight(fan_in: int) -> float:
    """Mean absolute initial weight of PyTorch's convolutions and fully connected layers: uniform, by inputs summed."""
    return 0.5 / math.sqrt(fan_in)


@dataclass(frozen=True, slots=True)
class _Value:
    """A tensor of the network, where channels that are equal are there once.

    Attributes:
        flow: the value and its derivative by a common factor of all weights so far, both over exp(``log_scale``); shape
            ``(2, channels or 1, height, width)``.
        log_scale: natural logarithm of what both are to be multiplied by.
    """

    flow: Flow
    log_scale: float = 0.0

    def by(self, factor: float) -> _Value:
        """All weights of a layer, each equal to ``factor``, applied to sums of inputs."""
        largest = float(np.abs(self.flow).max()) or 1.0
        value, slope = self.flow / largest
        return _Value(np.stack([value, slope + value]), self.log_scale + math.log(largest * factor))

    def at(self, log_scale: float) -> Flow:
        """The flow over another scale."""
        scaled: Flow = self.flow * math.exp(self.log_scale - log_scale)
        return scaled


def synflow(network: object) -> float:
    """Natural logarithm of the expected SynFlow of a zoo architecture. Higher is better.

    Raises:
        UsageError: the network is no architecture of the zoo.
    """
    if not isinstance(network, Architecture):
        raise UsageError(
            f"synflow is computed from a sectum.zoo.Architecture, not from {type(network).__name__}: use the objective "
            "naswot, or a function of your own"
        )
    values = {0: _Value(np.stack([np.ones((1, *network.shapes[0][1:])), np.zeros((1, *network.shapes[0][1:]))]))}
    for node in network.nodes:
        values.update(zip(node.outputs, _outputs(network, node, [values[i] for i in node.inputs]), strict=True))
    last = values[network.output]
    copies = math.prod(network.shapes[network.output]) / last.flow[1].size
    score = float(last.flow[1].sum()) * copies
    return math.log(score) + last.log_scale if score > 0 else -math.inf


def _outputs(network: Architecture, node: Node, inputs: list[_Value]) -> list[_Value]:
    layer, shapes, x = node.layer, network.inputs(node), inputs[0]
    out = network.shapes[node.outputs[0]]
    match layer:
        case ly.Conv():
            fan_in = shapes[0][0] // layer.groups * math.prod(layer.kernel)
            summed = _windows(_group_sums(x.flow, shapes[0][0], layer), layer, out)
            return [_Value(summed, x.log_scale).by(_mean_weight(fan_in))]
        case ly.Linear():
            summed = _summed_inputs(x.flow, shapes[0])
            fan_in = shapes[0][0] if len(shapes[0]) == 1 else shapes[0][-1]
            return [_Value(summed, x.log_scale).by(_mean_weight(fan_in))]
        case ly.ChannelScale():
            return [x.by(_LAYER_SCALE)]
        case ly.Add():
            scale = max(one.log_scale for one in inputs)
            return [_Value(sum((one.at(scale) for one in inputs[1:]), x.at(scale)), scale)]
        case ly.Concat():
            scale = max(one.log_scale for one in inputs)
            maps = [_all_channels(one.at(scale), shape[0]) for one, shape in zip(inputs, shapes, strict=True)]
            return [_Value(np.concatenate(maps, axis=1), scale)]
        case ly.Split():
            if x.flow.shape[1] == 1:
                return [x for _ in layer.sizes]
            parts = zip(layer.starts, layer.sizes, strict=True)
            return [_Value(x.flow[:, start : start + size], x.log_scale) for start, size in parts]
        case ly.ChannelShuffle():
            if x.flow.shape[1] == 1:
                return [x]
            groups = x.flow.reshape(2, layer.groups, -1, *x.flow.shape[2:])
            return [_Value(groups.swapaxes(1, 2).reshape(x.flow.shape), x.log_scale)]
        case ly.Pool():
            pooled = _largest(x.flow, layer, out) if layer.maximum else _means(x.flow, layer, out)
            return [_Value(pooled, x.log_scale)]
        case ly.GlobalAveragePool():
            return [_Value(x.flow.mean(axis=(2, 3), keepdims=True), x.log_scale)]
    return [x]  # nonlinearities and normalisations are left out, gates are open, and layouts do not matter


def _all_channels(flow: Flow, channels: int) -> Flow:
    return np.broadcast_to(flow, (2, channels, *flow.shape[2:]))


def _group_sums(flow: Flow, channels: int, layer: ly.Conv) -> Flow:
    """Sums over the channels that each filter reads; one map if they are all equal."""
    if flow.shape[1] == 1:
        return flow * (channels // layer.groups)
    groups: Flow = flow.reshape(2, layer.groups, -1, *flow.shape[2:]).sum(axis=2)
    return groups if layer.groups == 1 else np.repeat(groups, layer.out_channels // layer.groups, axis=1)


def _summed_inputs(flow: Flow, shape: ly.Shape) -> Flow:
    """Sums of what each output of a fully connected layer reads: all features, or all channels of a position."""
    if len(shape) == 1:
        total: Flow = flow.sum(axis=(1, 2, 3), keepdims=True) * (shape[0] / flow[0].size)
        return total
    summed: Flow = flow.sum(axis=1, keepdims=True) * (shape[-1] / flow.shape[1])
    return summed


def _starts(layer: ly.Conv | ly.Pool, axis: int, outputs: int) -> NDArray[np.int64]:
    """Where the windows along an axis begin in the input, which starts at 0."""
    return np.arange(outputs) * layer.stride[axis] - layer.padding[axis]


def _windows(flow: Flow, layer: ly.Conv | ly.Pool, out: ly.Shape) -> Flow:
    """Sums over windows; what a window has beyond the input is 0."""
    for axis in (0, 1):
        size = flow.shape[2 + axis]
        begin = _starts(layer, axis, out[1 + axis])
        sums = np.insert(flow.cumsum(axis=2 + axis), 0, 0.0, axis=2 + axis)
        ends = np.clip(begin + layer.kernel[axis], 0, size)
        flow = sums.take(ends, axis=2 + axis) - sums.take(np.clip(begin, 0, size), axis=2 + axis)
    return flow


def _means(flow: Flow, layer: ly.Pool, out: ly.Shape) -> Flow:
    if layer.count_padding:
        return _windows(flow, layer, out) / math.prod(layer.kernel)
    return _windows(flow, layer, out) / _windows(np.ones((1, 1, *flow.shape[2:])), layer, out)


def _largest(flow: Flow, layer: ly.Pool, out: ly.Shape) -> Flow:
    """The largest value of each window, and the derivative where it is."""
    height, width = flow.shape[2:]
    down, right = (_starts(layer, axis, out[1 + axis]) for axis in (0, 1))
    best: Flow | None = None
    for dy in range(layer.kernel[0]):
        rows = np.clip(down + dy, 0, height - 1)
        for dx in range(layer.kernel[1]):
            columns = np.clip(right + dx, 0, width - 1)
            here = flow[:, :, rows][:, :, :, columns]
            best = here if best is None else np.where(here[:1] > best[:1], here, best)
    assert best is not None
    return best
