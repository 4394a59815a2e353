"""What a trainer needs of a network, and the networks of the zoo in this form. Importing this loads PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from sectum.hetee.training.job import TrainingJob
from sectum.hetee.worker.training.zoo_network import architecture
from sectum.zoo.torch_modules import wire
from sectum.zoo.torch_weights import initialise


def nothing() -> None:
    """Do nothing: what a network calls before each layer, unless it is told otherwise."""


class Network(Protocol):
    """A network with its parameters.

    Attributes:
        parameters: what is trained, by name.
        buffers: what else changes while it trains, by name, such as the statistics of batch normalisation.
        watch: called before each layer.
    """

    parameters: dict[str, torch.Tensor]
    buffers: dict[str, torch.Tensor]
    watch: Callable[[], None]

    def scores(self, pictures: torch.Tensor, *, training: bool) -> torch.Tensor:
        """The scores ``(batch, classes)`` of a batch of inputs."""


class ZooNetwork:
    """A network of the zoo, with initial weights to train from."""

    def __init__(self, job: TrainingJob, device: str = "cpu") -> None:
        arch = architecture(job)
        # As `zoo.to_torch` does, but not by way of PyTorch's device `meta`, which loads a computer algebra system.
        self._module = wire(arch)
        initialise(self._module, arch, job.seed)
        self._module.to(device)
        self.parameters: dict[str, torch.Tensor] = dict(self._module.named_parameters())
        self.buffers = dict(self._module.named_buffers())
        self.watch: Callable[[], None] = nothing
        for layer in self._module.modules():
            layer.register_forward_pre_hook(lambda *_: self.watch())

    def scores(self, pictures: torch.Tensor, *, training: bool) -> torch.Tensor:
        """The scores of a batch of pictures ``(batch, 3, height, width)``."""
        self._module.train(training)
        found: torch.Tensor = self._module(pictures)
        return found
