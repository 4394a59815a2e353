"""How much a model file may ask for. Every limit is checked before the memory that it guards is committed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sectum.errors import ModelMalformed, ModelTooLarge
from sectum.units import GIB, MIB, format_bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one model. The defaults pass every published CNN with room to spare.

    Attributes:
        file_bytes: size of the model file; protobuf itself stops at 2 GiB.
        fields: protobuf fields in the file, nested ones counted; guards time and the parsed structure.
        nodes: operators, those of subgraphs counted.
        tensors: initialisers and constant attributes together.
        attributes: attributes of one operator.
        inputs: inputs plus outputs of one operator.
        attribute_elements: numbers in one list attribute.
        rank: dimensions of one tensor.
        nesting: depth of subgraphs.
        text_bytes: length of one name or string attribute.
        tensor_bytes: size of one tensor, weight or activation.
        weight_bytes: all weights together, those computed from constants counted.
        activation_bytes: all activations of one inference together.
    """

    file_bytes: int = 2 * GIB - 1
    fields: int = 2_000_000
    nodes: int = 100_000
    tensors: int = 200_000
    attributes: int = 256
    inputs: int = 20_000
    attribute_elements: int = 1 << 20
    rank: int = 32
    nesting: int = 8
    text_bytes: int = 1 * MIB
    tensor_bytes: int = 64 * GIB
    weight_bytes: int = 64 * GIB
    activation_bytes: int = 1024 * GIB

    def check_shape(self, what: str, shape: tuple[int, ...], element_bytes: int) -> int:
        """Bytes of a tensor of this shape.

        Raises:
            ModelMalformed: a dimension is negative.
            ModelTooLarge: too many dimensions, or more than ``tensor_bytes``.
        """
        if len(shape) > self.rank:
            raise ModelTooLarge(
                f"{what} has {len(shape)} dimensions; the limit is {self.rank}. Check the file's source"
            )
        if shape and min(shape) < 0:
            raise ModelMalformed(
                f"{what} has a negative dimension in {_brief(shape)}: sizes are 0 or more; export it again"
            )
        # An empty tensor takes no memory, but its other sizes must be possible all the same.
        n_bytes = math.prod(size or 1 for size in shape) * element_bytes
        if n_bytes > self.tensor_bytes:
            raise ModelTooLarge(
                f"{what} of shape {_brief(shape)} would take {_size(n_bytes)}; the limit for one tensor is "
                f"{format_bytes(self.tensor_bytes)}. Use a smaller input or raise Limits.tensor_bytes"
            )
        return 0 if 0 in shape else n_bytes


def _brief(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(str(d) if abs(d) < 10**20 else "..." for d in shape[:8]) + "]"


def _size(n_bytes: int) -> str:
    return format_bytes(n_bytes) if n_bytes < 1 << 80 else "more than 2**80 bytes"
