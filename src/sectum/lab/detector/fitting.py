"""Fits a detector: learns from simulated networks first, then from measured ones, then calibrates."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from sectum.errors import UsageError
from sectum.lab.detector.detector import FORMS, GNN, GNN_PAGE_MODEL, PAGE_MODEL
from sectum.lab.detector.features import together
from sectum.lab.detector.network import WorkingSetNetwork, torch_tensors
from sectum.predict.overcommit import ErrorDistribution

if TYPE_CHECKING:
    from sectum.lab.detector.examples import Example

_FREEDOM = 4.0
"""Degrees of freedom of the t distribution that errors are taken to follow: some networks are far off."""
_WARM_UP_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is learned.

    Attributes:
        simulated: graphs seen while learning from simulated networks, each as often as it comes up.
        measured: the same of measured networks.
        batch: graphs in a step.
        rate: the largest step's size; the second stage's is a part of it.
    """

    simulated: int = 60_000
    measured: int = 60_000
    batch: int = 32
    rate: float = 3e-3


@dataclass(frozen=True)
class Fitted:
    """What was fitted.

    Attributes:
        form: one of `FORMS`.
        network: None where the page model does without.
        distribution: of its errors on validation networks.
    """

    form: str
    network: WorkingSetNetwork | None
    distribution: ErrorDistribution

    def working_sets(self, examples: Sequence[Example]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Estimated bytes (the median of what it may be), and the scale of their error; shapes ``(examples,)``."""
        log_bytes, scale = _estimates(self.network, examples)
        return np.exp(log_bytes) * self.distribution.factor(scale), scale

    def probabilities(self, examples: Sequence[Example], epc_bytes: Sequence[float]) -> NDArray[np.float64]:
        """Probability that each example pages under the EPC given for it; shape ``(examples,)``."""
        log_bytes, scale = _estimates(self.network, examples)
        return self.distribution.probability(log_bytes - np.log(np.asarray(epc_bytes, dtype=np.float64)), scale)


def fit(
    training: Sequence[Example],
    validation: Sequence[Example],
    seed: int,
    *,
    form: str = GNN_PAGE_MODEL,
    simulated: Sequence[Example] = (),
    effort: Effort = Effort(),
    pretrained: WorkingSetNetwork | None = None,
) -> Fitted:
    """Fit one form of the detector; the same for the same arguments and number of threads.

    Args:
        training: measured networks to learn from.
        validation: measured networks to calibrate on; no relatives of them should be in training.
        seed: of the first weights and the order of the examples.
        form: one of `FORMS`.
        simulated: networks to learn from before, where the form sees the graph alone. Leave out relatives of what
            the detector will be judged by.
        effort: how much to learn.
        pretrained: what `pretrain` gave, in place of simulated networks; is not changed.

    Raises:
        UsageError: no such form, nothing to learn from, or too little to calibrate on.
    """
    if form not in FORMS:
        raise UsageError(f"no detector of the form '{form}': there are {', '.join(FORMS)}")
    network: WorkingSetNetwork | None = None
    if form != PAGE_MODEL:
        if not training:
            raise UsageError("no measured network to learn from: collect some first (sectum dataset collect)")
        network = copy.deepcopy(pretrained) if pretrained is not None else pretrain(simulated, seed, form, effort)
        # What was learned before is to be kept: smaller steps.
        gentle = replace(effort, rate=effort.rate / 3) if simulated or pretrained is not None else effort
        _learn(network, training, gentle.measured, gentle, seed + 1)
    log_bytes, scale = _estimates(network, validation)
    measured = np.log([example.working_set_bytes for example in validation])
    return Fitted(form, network, ErrorDistribution.fit((measured - log_bytes) / scale))


def pretrain(simulated: Sequence[Example], seed: int, form: str, effort: Effort) -> WorkingSetNetwork:
    """A network that knows what the page model says, or nothing where there are no examples.

    The form with the page model has nothing to learn from simulated networks: its first estimate is their label.
    """
    torch.manual_seed(seed)
    network = WorkingSetNetwork(with_page_model=form == GNN_PAGE_MODEL)
    if simulated and form == GNN:
        _learn(network, simulated, effort.simulated, effort, seed)
    return network


def _learn(network: WorkingSetNetwork, examples: Sequence[Example], visits: int, effort: Effort, seed: int) -> None:
    steps = max(1, visits // effort.batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=effort.rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, effort.rate, steps, pct_start=_WARM_UP_SHARE)
    rng = random.Random(seed)  # noqa: S311 - an order, not a secret
    waiting: list[Example] = []
    network.train()
    for _ in range(steps):
        while len(waiting) < effort.batch:
            waiting += rng.sample(examples, len(examples))
        batch, waiting = waiting[: effort.batch], waiting[effort.batch :]
        optimiser.zero_grad()
        _surprise(network, batch).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    network.eval()


def _surprise(network: WorkingSetNetwork, batch: Sequence[Example]) -> torch.Tensor:
    """Mean negative log likelihood of the measured working sets, less a constant."""
    targets = torch.tensor([example.target(with_page_model=network.with_page_model) for example in batch])
    log_ratio, log_scale = network(**torch_tensors(together([example.features for example in batch])))
    error = (targets - log_ratio) / torch.exp(log_scale)
    surprise: torch.Tensor = (log_scale + (_FREEDOM + 1) / 2 * torch.log1p(error.square() / _FREEDOM)).mean()
    return surprise


def _estimates(
    network: WorkingSetNetwork | None, examples: Sequence[Example], batch: int = 64
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log of the estimated bytes and the scale of its error."""
    if network is None:
        return np.log([example.page_model_bytes for example in examples]), np.ones(len(examples))
    ratios, scales = [], []
    with torch.no_grad():
        for start in range(0, len(examples), batch):
            features = together([example.features for example in examples[start : start + batch]])
            log_ratio, log_scale = network(**torch_tensors(features))
            first = features.page_model_bytes if network.with_page_model else features.first_estimate_bytes
            ratios.append(np.log(first) + log_ratio.numpy().astype(np.float64))
            scales.append(np.exp(log_scale.numpy().astype(np.float64)))
    return np.concatenate(ratios), np.concatenate(scales)
