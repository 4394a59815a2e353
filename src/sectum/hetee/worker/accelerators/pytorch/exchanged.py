"""Gradients as one array, which workers exchange, and back. Importing this loads PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from sectum.hetee.worker.accelerators.pytorch.network import Network
from sectum.hetee.worker.training.gradient_exchange import Pending


def _averaged(network: Network) -> Iterator[tuple[str, torch.Tensor]]:
    """The statistics that are averaged, such as the running mean of batch normalisation."""
    return ((name, value) for name, value in sorted(network.buffers.items()) if value.dtype is torch.float32)


def pending_of(network: Network, loss: torch.Tensor) -> Pending:
    """The gradients, statistics and loss of a part of a batch. A parameter without a gradient counts as zeros."""
    parameters = [value for _, value in sorted(network.parameters.items())]
    pieces = [torch.zeros_like(value) if value.grad is None else value.grad for value in parameters]
    pieces += [value for _, value in _averaged(network)]
    vector = np.empty(sum(piece.numel() for piece in pieces) + 1, np.float32)
    at = 0
    for piece in pieces:
        vector[at : at + piece.numel()] = piece.detach().reshape(-1).cpu().numpy()
        at += piece.numel()
    vector[at] = loss.item()
    averaged = dict(_averaged(network))
    counts = {name: value.cpu().numpy().copy() for name, value in network.buffers.items() if name not in averaged}
    idle = frozenset(name for name, value in network.parameters.items() if value.grad is None)
    return Pending(vector, counts, idle)


@torch.no_grad()
def take_over(network: Network, pending: Pending, device: str) -> float:
    """Give the parameters the average of all gradients, and the statistics their average; returns the average loss."""
    at = 0
    for name, value in sorted(network.parameters.items()):
        piece = torch.from_numpy(pending.vector[at : at + value.numel()])
        value.grad = None if name in pending.idle else piece.reshape(value.shape).to(device)
        at += value.numel()
    for _, value in _averaged(network):
        value.copy_(torch.from_numpy(pending.vector[at : at + value.numel()]).reshape(value.shape))
        at += value.numel()
    for name, count in pending.counts.items():
        network.buffers[name].copy_(torch.from_numpy(count))
    return float(pending.vector[at])


@torch.no_grad()
def put_back(network: Network, kept: Mapping[str, torch.Tensor]) -> None:
    """Give the statistics the values that they had."""
    for name, value in kept.items():
        network.buffers[name].copy_(value)
