"""What is known of an accelerator by its kind: how it is reset, and what shows that it was."""

from __future__ import annotations


def kind_of(name: str) -> str:
    """The kind of an accelerator with this name."""
    return name.partition(":")[0]


def has_nodes(kind: str) -> bool:
    """Whether accelerators of a kind have device nodes, which a worker must have from its start."""
    return kind == "cuda"


def resets_alive(kind: str) -> bool:
    """Whether the reset of an accelerator can be confirmed while the process that had it lives.

    A CPU or paced accelerator is a right to compute: it is reset when the kernel has stopped the process. Nothing
    shows that a GPU was cleaned while the process has its context.
    """
    return not has_nodes(kind)


def reset(name: str, *, before: bool = False) -> str:
    """What cleaned an accelerator after its owner's process was collected, and how the controller knows it.

    A CPU or paced accelerator has no memory but its owner's, and the kernel takes that back before it lets a process be
    collected. A GPU's memory belongs to a context of the process: its driver ends it, which nothing here can check.

    Args:
        name: name of the accelerator.
        before: whether it was given back before, while the process lived.
    """
    if not resets_alive(kind_of(name)):
        return "its context ended with the process, as its driver should do: not verified"
    taken = "it had the memory of the process only, which the kernel has taken back"
    return f"{taken}; given back before, when the kernel had stopped the process" if before else taken
