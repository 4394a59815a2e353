"""The layers as PyTorch modules and functions, and their wiring. Importing this loads torch."""

from __future__ import annotations

import operator
from functools import reduce

import torch
from torch import fx, nn

from sectum.zoo import layers as ly
from sectum.zoo.architecture import Architecture, Node

_ACTIVATIONS: dict[ly.Nonlinearity, type[nn.Module]] = {
    ly.Nonlinearity.RELU: nn.ReLU,
    ly.Nonlinearity.RELU6: nn.ReLU6,
    ly.Nonlinearity.SIGMOID: nn.Sigmoid,
    ly.Nonlinearity.SILU: nn.SiLU,
    ly.Nonlinearity.HARD_SIGMOID: nn.Hardsigmoid,
    ly.Nonlinearity.HARD_SWISH: nn.Hardswish,
    ly.Nonlinearity.GELU: nn.GELU,
}


def wire(arch: Architecture) -> fx.GraphModule:
    """Make the network; its weights are whatever the modules' constructors leave."""
    root, graph = nn.Module(), fx.Graph()
    values = {0: graph.placeholder("input")}
    for node in arch.nodes:
        inputs = tuple(values[value] for value in node.inputs)
        module = _module(node.layer, arch.inputs(node))
        if module is not None:
            _place(root, node.name, module)
            made: tuple[fx.Node, ...] = (graph.call_module(node.name, inputs),)
        elif isinstance(node.layer, ly.ChannelScale):
            scale = nn.Module()
            scale.register_parameter("weight", nn.Parameter(torch.empty(arch.inputs(node)[0][0], 1, 1)))
            _place(root, node.name, scale)
            made = (graph.call_function(operator.mul, (*inputs, graph.get_attr(f"{node.name}.weight"))),)
        else:
            made = _function(graph, node, inputs)
        values.update(zip(node.outputs, made, strict=True))
    graph.output(values[arch.output])
    return fx.GraphModule(root, graph, class_name=arch.name)


def _place(root: nn.Module, path: str, module: nn.Module) -> None:
    *scopes, name = path.split(".")
    for scope in scopes:
        if scope not in root._modules:
            root.add_module(scope, nn.Module())
        root = root.get_submodule(scope)
    root.add_module(name, module)


def _module(layer: ly.Layer, entering: tuple[ly.Shape, ...]) -> nn.Module | None:
    """Make the module that is the layer; None where it is a function."""
    shape = entering[0]
    match layer:
        case ly.Conv(out, kernel, stride, padding, groups, bias):
            return nn.Conv2d(shape[0], out, kernel, stride, padding, groups=groups, bias=bias)
        case ly.BatchNorm(epsilon):
            return nn.BatchNorm2d(shape[0], epsilon)
        case ly.LayerNorm(epsilon):
            return nn.LayerNorm(shape[-1], epsilon)
        case ly.Activation(kind):
            return _ACTIVATIONS[kind]()
        case ly.Pool(True, kernel, stride, padding, ceil):
            return nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil)
        case ly.Pool(False, kernel, stride, padding, ceil, count_padding):
            return nn.AvgPool2d(kernel, stride, padding, ceil, count_padding)
        case ly.GlobalAveragePool():
            return nn.AdaptiveAvgPool2d(1)
        case ly.Flatten():
            return nn.Flatten()
        case ly.Linear(out):
            return nn.Linear(shape[-1], out)
        case ly.ChannelShuffle(groups):
            return nn.ChannelShuffle(groups)
    return None


def _function(graph: fx.Graph, node: Node, inputs: tuple[fx.Node, ...]) -> tuple[fx.Node, ...]:
    match node.layer:
        case ly.Add():
            return (reduce(lambda x, y: graph.call_function(operator.add, (x, y)), inputs),)
        case ly.Gate():
            return (graph.call_function(operator.mul, inputs),)
        case ly.Concat():
            return (graph.call_function(torch.cat, (inputs, 1)),)
        case ly.Permute(channels_last):
            order = (0, 2, 3, 1) if channels_last else (0, 3, 1, 2)
            return (graph.call_function(torch.permute, (inputs[0], order)),)
        case ly.Split(sizes):
            parts = graph.call_function(torch.split, (inputs[0], sizes, 1))
            return tuple(graph.call_function(operator.getitem, (parts, port)) for port in range(len(sizes)))
    raise NotImplementedError(f"no PyTorch form of {node.layer}")  # a new layer that was not added here
