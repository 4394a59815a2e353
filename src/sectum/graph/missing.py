"""What a caller did not say about the inputs, and what is made of what was said at another batch."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from sectum.errors import ShapeUnbound
from sectum.graph.binding import Binding, Given, looks_like_batch
from sectum.graph.inference_context import Shape
from sectum.graph.onnx_format import RawValueInfo

FEW_VALUES = 8
"""An input of at most so many values can decide shapes and branches, and its values are easily written down."""


def open_lengths(declared: Sequence[RawValueInfo], given: Collection[str]) -> list[str]:
    """First dimensions, with their inputs, that are open, were not given and do not look like a batch."""
    return [
        f"'{info.shape[0]}' of input '{info.name}'"
        for info in declared
        if info.name not in given
        and info.shape
        and isinstance(info.shape[0], str)
        and not looks_like_batch(info.shape[0])
    ]


def rebatched(declared: Sequence[RawValueInfo], inputs: Mapping[str, Given], batch: int) -> dict[str, Given]:
    """Same inputs at another batch. Values stay for inputs of rank 0 only; the others become shapes."""
    scalars = {info.name for info in declared if info.shape == ()}
    return {
        name: given if name in scalars else (batch, *(given if isinstance(given, tuple) else given.shape)[1:])
        for name, given in inputs.items()
    }


def ask_for_values(declared: Sequence[RawValueInfo], binding: Binding, sources: Collection[str], decides: str) -> None:
    """Ask for the values of small inputs.

    Args:
        declared: the inputs.
        binding: what is known about them.
        sources: tensors whose values count.
        decides: what they decide, for the message.

    Raises:
        ShapeUnbound: a small input among the sources has no value.
    """
    small = {
        info.name: binding.shapes[info.name]
        for info in declared
        if info.name in sources
        and info.name not in binding.values
        and math.prod(binding.shapes[info.name]) <= FEW_VALUES
    }
    if small:
        flags = " ".join(f"--input {name}={_example(shape)}" for name, shape in small.items())
        raise ShapeUnbound(
            f"the value of input {' and '.join(map(repr, small))} decides {decides}: give it, for example {flags}"
        )


def _example(shape: Shape) -> str:
    """A value of this shape, as the command line writes it."""
    text = "1"
    for size in reversed(shape):
        text = f"[{','.join([text] * size)}]"
    return text
