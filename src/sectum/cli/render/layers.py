"""What a layer does, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sectum.predict.prediction import Layer

_MOST_LISTED = 3
"""An operator that replaces more source operators than these goes by the runtime's name for it, such as Gelu."""


def kind(layer: Layer) -> str:
    """Name the source operators that a layer carries out: ``Conv + BatchNormalization + Relu``."""
    plain = plain_type(layer.type)
    if not layer.fused:
        return f"{plain} (added by the runtime)"
    return " + ".join(layer.fused) if plain in layer.fused or len(layer.fused) <= _MOST_LISTED else plain


def plain_type(qualified_type: str) -> str:
    """The type of an operator of the runtime without its domain, and without saying that it is fused."""
    return qualified_type.rpartition(":")[2].removeprefix("Fused")
