"""Trains the detector's graph neural network on measured working sets. Importing this loads PyTorch."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sectum.errors import UsageError
from sectum.lab.detector.detector import WorkingSets, estimates
from sectum.lab.detector.features import GraphFeatures, together
from sectum.lab.detector.network import WorkingSetNetwork, torch_tensors
from sectum.predict.overcommit import ErrorDistribution

BATCH, RATE = 32, 3e-3
"""Graphs in a step; the largest step size."""

_FREEDOM = 4.0
"""Degrees of freedom of the t distribution that errors are assumed to follow: some networks are far off."""
_WARM_UP_SHARE = 0.1

Example = tuple[GraphFeatures, float]
"""A network's features, and its measured working set in bytes."""


@dataclass(frozen=True)
class FittedDetector:
    """A trained network with the distribution of its errors on held-out networks."""

    network: WorkingSetNetwork
    errors: ErrorDistribution

    def working_sets(self, features: Sequence[GraphFeatures]) -> WorkingSets:
        """Estimate working sets, as `sectum.lab.detector.Detector.working_sets` does."""
        return WorkingSets(*_estimates(self.network, features), self.errors)


def fit(training: Sequence[Example], validation: Sequence[Example], *, visits: int) -> FittedDetector:
    """Train a network and calibrate it; the same result for the same arguments and number of threads.

    Args:
        training: measured networks to learn from.
        validation: measured networks to calibrate on, no relatives of those in training.
        visits: graphs seen in training, each network as often as the others.

    Raises:
        UsageError: nothing to learn from, or too few networks to calibrate on.
    """
    if not training:
        raise UsageError("no measured network to learn from: collect some first (sectum dataset collect)")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = WorkingSetNetwork()
    _learn(network, training, visits)
    log_bytes, scale = _estimates(network, [features for features, _ in validation])
    measured = np.log([working_set_bytes for _, working_set_bytes in validation])
    return FittedDetector(network, ErrorDistribution.fit((measured - log_bytes) / scale))


def _learn(network: WorkingSetNetwork, examples: Sequence[Example], visits: int) -> None:
    steps = max(1, visits // BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps, pct_start=_WARM_UP_SHARE)
    rng = random.Random(0)  # noqa: S311 - an order, not a secret
    waiting: list[Example] = []
    network.train()
    for _ in range(steps):
        while len(waiting) < BATCH:
            waiting += rng.sample(examples, len(examples))
        batch, waiting = waiting[:BATCH], waiting[BATCH:]
        optimiser.zero_grad()
        _surprise(network, batch).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    network.eval()


def _surprise(network: WorkingSetNetwork, batch: Sequence[Example]) -> torch.Tensor:
    """Mean negative log likelihood of the measured working sets, less a constant."""
    joined = together([features for features, _ in batch])
    measured = np.array([working_set_bytes for _, working_set_bytes in batch], np.float64)
    target = torch.from_numpy(np.log(measured / joined.first_estimate_bytes)).float()
    log_ratio, log_scale = network(**torch_tensors(joined))
    error = (target - log_ratio) / torch.exp(log_scale)
    surprise: torch.Tensor = (log_scale + (_FREEDOM + 1) / 2 * torch.log1p(error.square() / _FREEDOM)).mean()
    return surprise


def _estimates(
    network: WorkingSetNetwork, features: Sequence[GraphFeatures]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    with torch.no_grad():
        return estimates(lambda joined: [tensor.numpy() for tensor in network(**torch_tensors(joined))], features)
