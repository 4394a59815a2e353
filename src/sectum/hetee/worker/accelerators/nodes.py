"""Which device nodes a worker needs for its accelerators: it sees no others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

# Those of the driver as a whole: without a card's own node, they give access to no card.
_SHARED = (Path("/dev/nvidiactl"), Path("/dev/nvidia-uvm"))


def with_nodes(names: Iterable[str]) -> tuple[str, ...]:
    """The accelerators among these that have device nodes, by their number, which is the order of CUDA's device ids."""
    numbers = sorted(int(number) for kind, _, number in (name.partition(":") for name in names) if kind == "cuda")
    return tuple(f"cuda:{number}" for number in numbers)


def nodes_of(name: str) -> tuple[Path, ...]:
    """The device nodes for an accelerator with this name; none for one without a device."""
    kind, _, number = name.partition(":")
    return (Path(f"/dev/nvidia{number}"), *_SHARED) if kind == "cuda" else ()
