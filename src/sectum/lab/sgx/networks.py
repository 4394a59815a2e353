"""The four networks of the published SGX measurements: their layers, and the pages they touch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from sectum.enclave import profile
from sectum.paging.replacement import Touch
from sectum.units import pages

_FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class LayerSizes:
    """Float32 elements of one layer at batch 1; each weight is used at ``positions`` places of the output."""

    weights: int
    outputs: int
    positions: int


class LayerSequence:
    """Layers, each of which reads what the one before it writes."""

    def __init__(self, channels: int, side: int) -> None:
        self.inputs = channels * side * side
        self.channels, self.side = channels, side
        self.layers: list[LayerSizes] = []

    def conv(self, channels: int, kernel: int, stride: int = 1, padding: int = 0) -> LayerSequence:
        """Add a convolution, with a bias and its activation function in place."""
        weights = (self.channels * kernel * kernel + 1) * channels
        self.side = (self.side + 2 * padding - kernel) // stride + 1
        self.channels = channels
        positions = self.side * self.side
        self.layers.append(LayerSizes(weights, channels * positions, positions))
        return self

    def pool(self, kernel: int) -> LayerSequence:
        """Add a pooling of stride 2."""
        self.side = (self.side - kernel) // 2 + 1
        self.layers.append(LayerSizes(0, self.channels * self.side * self.side, 1))
        return self

    def dense(self, *widths: int) -> LayerSequence:
        """Add fully connected layers, each with a bias."""
        for width in widths:
            inputs = self.channels * self.side * self.side
            self.layers.append(LayerSizes((inputs + 1) * width, width, 1))
            self.channels, self.side = width, 1
        return self


def _alexnet_trunk() -> LayerSequence:
    trunk = LayerSequence(3, 227).conv(96, 11, stride=4).pool(3).conv(256, 5, padding=2).pool(3)
    return trunk.conv(384, 3, padding=1).conv(384, 3, padding=1).conv(256, 3, padding=1).pool(3)


def _vgg16_trunk() -> LayerSequence:
    trunk = LayerSequence(3, 224)
    for channels, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            trunk.conv(channels, 3, padding=1)
        trunk.pool(2)
    return trunk


@cache
def network(model: str) -> LayerSequence:
    """Build a network: AlexNet without groups (``alex``), with a small head, VGG-16, or a perceptron."""
    if model == "large_mlp":
        return LayerSequence(784, 1).dense(4000, 2000, 1000, 10)
    if model == "vgg16":
        return _vgg16_trunk().dense(4096, 4096, 1000)
    return _alexnet_trunk().dense(*((4096, 4096, 1000) if model == "alex" else (500,)))


def trace(model: str, batch: int) -> tuple[Touch, ...]:
    """Pages of one inference: each layer's input, weights and output, every tensor in pages of its own."""
    layers = network(model).layers
    next_page = 0

    def place(elements: int) -> tuple[int, int]:
        nonlocal next_page
        first, n_pages = next_page, pages(elements * _FLOAT32_BYTES)
        next_page += n_pages
        return first, n_pages

    weights = [place(layer.weights) for layer in layers]
    activations = [place(elements * batch) for elements in _activations(model)]
    return tuple(
        Touch(index, first, n_pages)
        for index, weight in enumerate(weights)
        for first, n_pages in (activations[index], weight, activations[index + 1])
        if n_pages
    )


def _activations(model: str) -> Iterator[int]:
    yield network(model).inputs
    for layer in network(model).layers:
        yield layer.outputs


def weight_bytes(model: str) -> int:
    """Bytes of all weights."""
    return sum(layer.weights for layer in network(model).layers) * _FLOAT32_BYTES


def streamed_bytes(model: str, batch: int) -> float:
    """Bytes of weights that are waited for rather than computed with, see `profile.streamed_bytes`."""
    return sum(
        profile.streamed_bytes(layer.weights * _FLOAT32_BYTES, 2.0 * layer.weights * layer.positions * batch)
        for layer in network(model).layers
    )
