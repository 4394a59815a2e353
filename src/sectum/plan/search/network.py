"""What a search looks at: an architecture of the zoo, a PyTorch module, or a module with example inputs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sectum.errors import UsageError
from sectum.zoo.architecture import Architecture

if TYPE_CHECKING:
    import torch

    from sectum.graph.ir import Graph
    from sectum.graph.parsed_model import Model

Network = Any
"""A `sectum.zoo.Architecture`, a ``torch.nn.Module``, or a pair of a module and the tuple of its example inputs."""

RESOLUTION = 224
"""Height and width of the pictures that a module takes if nothing else is said."""


def check(network: Network) -> None:
    """Check that it is a network.

    Raises:
        UsageError: it is something else.
    """
    if isinstance(network, Architecture) or _module(network) is not None:
        return
    raise UsageError(
        f"a search looks at sectum.zoo.Architecture, at torch.nn.Module, or at a pair of a module and its example "
        f"inputs, not at {type(network).__name__}"
    )


def name_of(network: Network) -> str:
    """What it is called: an architecture's name, or the class of a module."""
    return network.name if isinstance(network, Architecture) else type(_module(network)).__name__.lower()


def as_graph(network: Network, batch: int) -> Architecture | Graph:
    """What a prediction takes: an architecture as it is, a module exported.

    Raises:
        ModelError: PyTorch cannot export the module, or it cannot be read.
    """
    return network if isinstance(network, Architecture) else as_model(network, batch).graph


def as_model(network: Network, batch: int) -> Model:
    """The network with weights, as it is measured: those of an architecture are random.

    Raises:
        ModelError: PyTorch cannot export the module, or it cannot be read.
    """
    if isinstance(network, Architecture):
        from sectum.graph import read
        from sectum.zoo import to_bytes

        return read(to_bytes(network, batch=batch))
    from sectum.graph.torch_reader import from_torch

    module = _module(network)
    assert module is not None
    return from_torch(module, _examples(network, batch))


def as_module(network: Network) -> torch.nn.Module:
    """The network to be run or trained; an architecture gets initial weights.

    Raises:
        UsageError: PyTorch is not installed, or it is no network.
    """
    if isinstance(network, Architecture):
        from sectum.zoo import to_torch

        return to_torch(network)
    check(network)
    module = _module(network)
    assert module is not None
    return module


def pictures_for(network: Network) -> tuple[int, int, int]:
    """Channels, height and width of the pictures that it takes.

    Raises:
        UsageError: its example inputs are no single batch of pictures.
    """
    if isinstance(network, Architecture):
        channels, height, width = network.shapes[0]
        return channels, height, width
    examples = _examples(network, 1)
    if len(examples) != 1 or len(examples[0].shape) != 4:
        raise UsageError("this objective needs a network that takes one batch of pictures: use a function of your own")
    channels, height, width = examples[0].shape[1:]
    return channels, height, width


def _module(network: Network) -> torch.nn.Module | None:
    """The module that it is or has; None where there is none. Does not load PyTorch."""
    torch = sys.modules.get("torch")
    if isinstance(network, tuple) and len(network) == 2 and isinstance(network[1], tuple):
        network = network[0]
    return network if torch is not None and isinstance(network, torch.nn.Module) else None


def _examples(network: Network, batch: int) -> tuple[Any, ...]:
    if isinstance(network, tuple):
        return tuple(network[1])
    import torch

    return (torch.zeros(batch, 3, RESOLUTION, RESOLUTION),)
