"""Shapes that a file declares and its operators contradict. ONNX Runtime warns about them and goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sectum.graph.inference_context import Shape, Typed
from sectum.graph.onnx_format import RawValueInfo

_NAME_CHARACTERS = 60


def contradictions(declared: Mapping[str, Sequence[RawValueInfo]], types: Mapping[str, Typed]) -> list[str]:
    """One note for each kind of tensor of which the file declares wrong shapes.

    Args:
        declared: what the file says, by the word for the kind of tensor.
        types: what its operators make.
    """
    notes = []
    for kind, infos in declared.items():
        wrong = [info for info in infos if info.name in types and _contradicts(info, types[info.name][0])]
        if not wrong:
            continue
        first = wrong[0]
        more = f", and wrong ones for {len(wrong) - 1} more" if wrong[1:] else ""
        notes.append(
            f"the file declares the shape {_text(first.shape or ())} for the {kind} "
            f"'{first.name[:_NAME_CHARACTERS]}', whose shape is {_text(types[first.name][0])}{more}: "
            "the computed shape counts"
        )
    return notes


def _contradicts(info: RawValueInfo, shape: Shape) -> bool:
    declared = info.shape
    return declared is not None and (
        len(declared) != len(shape)
        or any(isinstance(d, int) and d > 0 and d != s for d, s in zip(declared, shape, strict=True))
    )


def _text(shape: tuple[int | str | None, ...]) -> str:
    return f"[{', '.join('?' if dim is None else str(dim)[:_NAME_CHARACTERS] for dim in shape)}]"
