"""When two networks are the same network, and when they are near relatives.

A digest is made of the operators in the order in which a walk from the output backwards visits them, with tensors
numbered in that order. Operators keep the order of their inputs, so there is only one such walk: the digest depends
neither on names nor on the order of construction, and leaves out what the output does not need.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from itertools import count

from sectum.graph.ir import Operator
from sectum.zoo.architecture import Architecture
from sectum.zoo.layers import Shape
from sectum.zoo.lowered import INPUT, OUTPUT, Lowered, Values, Weight
from sectum.zoo.lowering import lower
from sectum.zoo.program import Program

Description = tuple[object, ...]
Describe = Callable[[Operator, Lowered], Description | None]


def structure(network: Architecture | Program) -> str:
    """Digest of what decides cost: operators, attributes, shapes and wiring, without names, weights and seed.

    Two networks of one structure are duplicates. It is the digest of the ONNX operators that are emitted: where
    it changes, what was measured before is of another network.

    Returns:
        A SHA-256 in hexadecimal.
    """
    if isinstance(network, Program):
        return network.structure
    return _digest(network, network.shapes[0], _whole)


def topology(network: Architecture | Program) -> str:
    """Digest of operators, kernels, strides and wiring, whatever the numbers of channels and the resolution.

    Networks of one topology are near relatives: where they are put on one side of a split, it leaks less. Groups
    of a convolution are told only by whether each channel has its own.

    Returns:
        A SHA-256 in hexadecimal.
    """
    if isinstance(network, Program):
        return network.topology
    return _digest(network, (), _outline)


def _digest(arch: Architecture, entering: Shape, describe: Describe) -> str:
    lowered = lower(arch)
    makers = {output: op for op in lowered.operators for output in op.outputs}
    fresh = count()
    numbers = {INPUT: next(fresh)}
    written: list[object] = [entering]
    wanted = [OUTPUT]
    while wanted:  # a stack, since networks are deeper than Python recurses
        op = makers[wanted[-1]]
        unmet = [name for name in reversed(op.inputs) if name in makers and name not in numbers]
        if unmet:
            wanted += unmet
            continue
        if wanted.pop() in numbers:
            continue
        described = describe(op, lowered)
        if described is None:
            numbers[op.outputs[0]] = numbers[op.inputs[0]]
            continue
        numbers |= {output: next(fresh) for output in op.outputs}
        written.append((op.type, [numbers.get(name) for name in op.inputs], *described))
    return hashlib.sha256(json.dumps(written, separators=(",", ":")).encode()).hexdigest()


def _whole(op: Operator, lowered: Lowered) -> Description:
    constants = [_content(lowered.constants[name]) for name in op.inputs if name in lowered.constants]
    return sorted(op.attributes.items()), constants, [lowered.shapes[name] for name in op.outputs]


def _content(constant: Weight | Values) -> Description:
    """Shape of a weight; the value of what nobody trains, such as the bounds of a Clip."""
    if isinstance(constant, Values):
        return constant.values
    return (constant.shape,) if constant.spread else (constant.shape, constant.mean)


def _outline(op: Operator, lowered: Lowered) -> Description | None:
    attributes = dict(op.attributes)
    if op.type == "Conv":
        weight = lowered.constants[op.inputs[1]]
        assert isinstance(weight, Weight)
        attributes["group"] = int(attributes["group"] != 1 and weight.shape[1] == 1)
    elif op.type == "AveragePool" and _is_flattened(op.outputs[0], lowered):
        return None  # it stands for adaptive pooling: the resolution decides its window, and whether it is there
    return sorted(attributes.items()), len(op.outputs)


def _is_flattened(name: str, lowered: Lowered) -> bool:
    return any(op.type == "Flatten" and name in op.inputs for op in lowered.operators)
