"""From layers to ONNX operators, without any tensor's content.

The operators are those that exporters write for networks in evaluation mode: a convolution, its batch
normalisation and its activation stay three operators, SiLU is ``Sigmoid`` and ``Mul``, a channel shuffle is
``Reshape``, ``Transpose``, ``Reshape`` - so that a runtime has its own fusions to do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TypeVar

from sectum.graph.ir import Operator
from sectum.zoo import layers as ly
from sectum.zoo.architecture import Architecture, Node
from sectum.zoo.lowered import INPUT, OUTPUT, Attribute, Lowered, Values, Weight, float32

__all__ = ["INPUT", "OUTPUT", "lower"]

LayerKind = TypeVar("LayerKind", bound=ly.Layer)

# Scales of the stored statistics and of what is trained with them: near the identity, as after training.
NORM_SPREAD = 0.05
SHIFT_SPREAD = 0.1
# A residual branch adds little to what it joins; two branches that meet share the variance. Without this
# the variance would double with every block, since nothing here is truly normalised.
BRANCH_GAIN = 0.25
SHARED_GAIN = math.sqrt(0.5)
# SiLU and its like keep less of the variance than ReLU, for which convolutions are scaled.
SMOOTH_GAIN = 1.1
SMOOTH = (ly.Nonlinearity.SILU, ly.Nonlinearity.HARD_SWISH)
# Gates are open on average; otherwise the signal would fade from block to block.
GATE_SHIFT = 2.0
GATES = (ly.Nonlinearity.SIGMOID, ly.Nonlinearity.HARD_SIGMOID)


def lower(arch: Architecture, *, fold_batch_norm: bool = False) -> Lowered:
    """Write an architecture as ONNX operators.

    Args:
        arch: the network.
        fold_batch_norm: write a convolution and the normalisation that alone reads it as one convolution
            with a bias, as a model looks after folding.
    """
    return _Lowering(arch, fold_batch_norm=fold_batch_norm).run()


class _Lowering:
    def __init__(self, arch: Architecture, *, fold_batch_norm: bool) -> None:
        self.arch = arch
        self.result = Lowered(arch.name)
        self.names = self._value_names()
        self.folded = set(self._folded()) if fold_batch_norm else set()

    def run(self) -> Lowered:
        self.result.shapes[INPUT] = self.arch.shapes[0]
        for index, node in enumerate(self.arch.nodes):
            if index not in self.folded:
                _LOWER[type(node.layer)](self, node)
        return self.result

    def _value_names(self) -> list[str]:
        names = [INPUT] * len(self.arch.shapes)
        for node in self.arch.nodes:
            for port, value in enumerate(node.outputs):
                names[value] = f"{node.name}.out{port if len(node.outputs) > 1 else ''}"
        names[self.arch.output] = OUTPUT
        return names

    def _folded(self) -> Iterator[int]:
        """Normalisations that disappear; the convolution before them makes their output."""
        for node in self.arch.nodes:
            follower = self.follower(node)
            if isinstance(node.layer, ly.Conv) and follower is not None:
                index, after = follower
                if isinstance(after.layer, ly.BatchNorm):
                    self.names[node.outputs[0]] = self.names[after.outputs[0]]
                    yield index

    @cached_property
    def normalised(self) -> frozenset[int]:
        """Values that a normalisation made."""
        return frozenset(node.outputs[0] for node in self.arch.nodes if isinstance(node.layer, ly.BatchNorm))

    def follower(self, node: Node) -> tuple[int, Node] | None:
        """Find the one node that reads a node's output."""
        readers = self.arch.readers[node.outputs[0]]
        return (readers[0], self.arch.nodes[readers[0]]) if len(readers) == 1 else None

    def activates(self, node: Node, kinds: tuple[ly.Nonlinearity, ...]) -> bool:
        """Whether one of these functions alone reads a node's output."""
        follower = self.follower(node)
        layer = follower[1].layer if follower else None
        return isinstance(layer, ly.Activation) and layer.kind in kinds

    def gain(self, node: Node) -> float:
        """Tell what a normalisation multiplies by: less than 1 where a sum follows."""
        if self.activates(node, SMOOTH):
            return SMOOTH_GAIN
        follower = self.follower(node)
        if follower is None or not isinstance(follower[1].layer, ly.Add):
            return 1.0
        return SHARED_GAIN if self.normalised.issuperset(follower[1].inputs) else BRANCH_GAIN

    def weight(self, node: Node, role: str, shape: tuple[int, ...], mean: float, spread: float) -> str:
        return self._constant(Weight(f"{node.name}.{role}", shape, mean, spread))

    def scalar(self, value: float) -> str:
        return self._constant(Weight(f"scalar_{value:g}", (), value, 0.0))

    def integers(self, node: Node, role: str, values: tuple[int, ...]) -> str:
        return self._constant(Values(f"{node.name}.{role}", values))

    def _constant(self, constant: Weight | Values) -> str:
        self.result.constants[constant.name] = constant
        return constant.name

    def emit(self, node: Node, kind: str, *constants: str, **attributes: Attribute) -> None:
        """Append the one operator that is the whole layer."""
        names, shapes, values = self.names, self.result.shapes, self.arch.shapes
        inputs = (*[names[value] for value in node.inputs], *constants)
        outputs = tuple([names[value] for value in node.outputs])
        for value in node.outputs:
            shapes[names[value]] = values[value]
        self.result.operators.append(Operator(node.name, kind, inputs, outputs, attributes))

    def step(
        self, node: Node, role: str, kind: str, *inputs: str, shape: ly.Shape = (), **attributes: Attribute
    ) -> str:
        """Append one operator of several; returns the name of its output."""
        output = f"{node.name}.{role}.out"
        self.result.shapes[output] = shape or self.arch.shapes[node.outputs[0]]
        operator = Operator(f"{node.name}.{role}", kind, inputs, (output,), attributes)
        self.result.operators.append(operator)
        return output

    def finish(self, node: Node, role: str, kind: str, *inputs: str, **attributes: Attribute) -> None:
        """Append the last operator of several: it makes the layer's output."""
        output = self.names[node.outputs[0]]
        self.result.shapes[output] = self.arch.shapes[node.outputs[0]]
        operator = Operator(f"{node.name}.{role}", kind, inputs, (output,), attributes)
        self.result.operators.append(operator)

    # One method for each layer that needs more than an operator type.

    def conv(self, node: Node) -> None:
        layer = _as(ly.Conv, node)
        shapes = layer.parameters(self.arch.inputs(node))
        spread = _he(shapes["weight"])
        follower = self.follower(node)
        is_folded = follower is not None and follower[0] in self.folded
        if is_folded and follower is not None:
            spread *= self.gain(follower[1])
        constants = [self.weight(node, "weight", shapes["weight"], 0.0, spread)]
        if layer.bias or is_folded:
            shift = GATE_SHIFT if self.activates(node, GATES) else 0.0
            constants.append(self.weight(node, "bias", (layer.out_channels,), shift, SHIFT_SPREAD))
        self.emit(
            node,
            "Conv",
            *constants,
            dilations=(1, 1),
            group=layer.groups,
            kernel_shape=layer.kernel,
            pads=layer.padding * 2,
            strides=layer.stride,
        )

    def batch_norm(self, node: Node) -> None:
        shape = (self.arch.inputs(node)[0][0],)
        gain = self.gain(node)
        constants = (
            self.weight(node, "weight", shape, gain, gain * NORM_SPREAD),
            self.weight(node, "bias", shape, 0.0, SHIFT_SPREAD),
            self.weight(node, "mean", shape, 0.0, SHIFT_SPREAD),
            self.weight(node, "variance", shape, 1.0, NORM_SPREAD),
        )
        epsilon = float32(_as(ly.BatchNorm, node).epsilon)
        self.emit(node, "BatchNormalization", *constants, epsilon=epsilon, momentum=float32(0.9))

    def layer_norm(self, node: Node) -> None:
        shape = self.arch.inputs(node)[0][-1:]
        scale = self.weight(node, "weight", shape, 1.0, NORM_SPREAD)
        bias = self.weight(node, "bias", shape, 0.0, SHIFT_SPREAD)
        epsilon = float32(_as(ly.LayerNorm, node).epsilon)
        self.emit(node, "LayerNormalization", scale, bias, axis=-1, epsilon=epsilon)

    def channel_scale(self, node: Node) -> None:
        shape = _as(ly.ChannelScale, node).parameters(self.arch.inputs(node))["weight"]
        self.emit(node, "Mul", self.weight(node, "weight", shape, BRANCH_GAIN, BRANCH_GAIN * NORM_SPREAD))

    def activation(self, node: Node) -> None:
        x = self.names[node.inputs[0]]
        match _as(ly.Activation, node).kind:
            case ly.Nonlinearity.RELU:
                self.emit(node, "Relu")
            case ly.Nonlinearity.RELU6:
                self.emit(node, "Clip", self.scalar(0.0), self.scalar(6.0))
            case ly.Nonlinearity.SIGMOID:
                self.emit(node, "Sigmoid")
            case ly.Nonlinearity.HARD_SIGMOID:
                self.emit(node, "HardSigmoid", alpha=float32(1 / 6), beta=0.5)
            case ly.Nonlinearity.HARD_SWISH:
                self.emit(node, "HardSwish")
            case ly.Nonlinearity.SILU:
                self.finish(node, "mul", "Mul", x, self.step(node, "sigmoid", "Sigmoid", x))
            case ly.Nonlinearity.GELU:  # one operator only from opset 20
                y = self.step(node, "div", "Div", x, self.scalar(math.sqrt(2)))
                y = self.step(node, "add", "Add", self.step(node, "erf", "Erf", y), self.scalar(1.0))
                y = self.step(node, "mul", "Mul", x, y)
                self.finish(node, "half", "Mul", y, self.scalar(0.5))

    def pool(self, node: Node) -> None:
        layer = _as(ly.Pool, node)
        window: dict[str, Attribute] = {
            "ceil_mode": int(layer.ceil),
            "kernel_shape": layer.kernel,
            "pads": layer.padding * 2,
            "strides": layer.stride,
        }
        if layer.maximum:
            self.emit(node, "MaxPool", dilations=(1, 1), **window)
        else:
            self.emit(node, "AveragePool", count_include_pad=int(layer.count_padding), **window)

    def linear(self, node: Node) -> None:
        entering = self.arch.inputs(node)[0]
        out = _as(ly.Linear, node).out_features
        if len(entering) == 1:
            weight = self.weight(node, "weight", (out, entering[0]), 0.0, _he((out, entering[0])))
            bias = self.weight(node, "bias", (out,), 0.0, SHIFT_SPREAD)
            self.emit(node, "Gemm", weight, bias, alpha=1.0, beta=1.0, transB=1)
            return
        spread = _he((out, entering[-1]))
        weight = self.weight(node, "weight", (entering[-1], out), 0.0, spread)
        y = self.step(node, "matmul", "MatMul", self.names[node.inputs[0]], weight)
        self.finish(node, "add", "Add", self.weight(node, "bias", (out,), 0.0, SHIFT_SPREAD), y)

    def permute(self, node: Node) -> None:
        order = (0, 2, 3, 1) if _as(ly.Permute, node).channels_last else (0, 3, 1, 2)
        self.emit(node, "Transpose", perm=order)

    def split(self, node: Node) -> None:
        self.emit(node, "Split", self.integers(node, "sizes", _as(ly.Split, node).sizes), axis=1)

    def shuffle(self, node: Node) -> None:
        # A 0 in a Reshape keeps the dimension that is there: one model serves every batch.
        groups = _as(ly.ChannelShuffle, node).groups
        channels, height, width = self.arch.inputs(node)[0]
        apart = (groups, channels // groups, height, width)
        turned = (channels // groups, groups, height, width)
        split = self.integers(node, "split.shape", (0, *apart))
        y = self.step(node, "split", "Reshape", self.names[node.inputs[0]], split, shape=apart)
        y = self.step(node, "transpose", "Transpose", y, shape=turned, perm=(0, 2, 1, 3, 4))
        merged = self.integers(node, "merge.shape", (0, channels, height, width))
        self.finish(node, "merge", "Reshape", y, merged)


def _plain(kind: str, **attributes: Attribute) -> Callable[[_Lowering, Node], None]:
    def emit(lowering: _Lowering, node: Node) -> None:
        lowering.emit(node, kind, **attributes)

    return emit


def _as(kind: type[LayerKind], node: Node) -> LayerKind:
    assert isinstance(node.layer, kind)
    return node.layer


def _he(shape: tuple[int, ...]) -> float:
    """Spread of a weight (out, in, ...) that a layer and a ReLU keep the variance by (He et al. 2015)."""
    return math.sqrt(2 / math.prod(shape[1:]))


_LOWER: Mapping[type[ly.Layer], Callable[[_Lowering, Node], None]] = {
    ly.Conv: _Lowering.conv,
    ly.BatchNorm: _Lowering.batch_norm,
    ly.LayerNorm: _Lowering.layer_norm,
    ly.ChannelScale: _Lowering.channel_scale,
    ly.Activation: _Lowering.activation,
    ly.Pool: _Lowering.pool,
    ly.GlobalAveragePool: _plain("GlobalAveragePool"),
    ly.Flatten: _plain("Flatten", axis=1),
    ly.Linear: _Lowering.linear,
    ly.Permute: _Lowering.permute,
    ly.Add: _plain("Add"),
    ly.Gate: _plain("Mul"),
    ly.Concat: _plain("Concat", axis=1),
    ly.Split: _Lowering.split,
    ly.ChannelShuffle: _Lowering.shuffle,
}
