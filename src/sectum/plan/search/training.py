"""Training with early stopping, for objectives that score a network by what it learns. Importing this loads torch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from sectum.errors import UsageError

EPOCHS, PATIENCE = 20, 3
"""Training ends after so many passes, or after so many in a row without a smaller loss on the pictures that say so."""
_BATCH, _LEAST_BATCH, _STEPS, _RATE = 64, 8, 16, 1e-3
"""Where there are few pictures, batches are smaller, so that a pass has so many steps."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Pictures as they are kept, ``(n, channels, height, width)``, and their classes ``(n,)``."""

    pictures: torch.Tensor
    classes: torch.Tensor

    def part(self, chosen: torch.Tensor) -> Labelled:
        """Some of them, by their positions."""
        return Labelled(self.pictures[chosen], self.classes[chosen])


@dataclass(frozen=True, slots=True)
class Task:
    """What a network is trained for.

    Attributes:
        name: of the objective, for messages.
        train: pictures to train with.
        stop: pictures that say when to stop.
        held_out: pictures for the score.
        classes: how many there are.
        prepare: makes of some pictures what the network takes.
    """

    name: str
    train: Labelled
    stop: Labelled
    held_out: Labelled
    classes: int
    prepare: Callable[[torch.Tensor], torch.Tensor]

    def score(self, module: nn.Module, generator: torch.Generator) -> float:
        """Train a network; the share of the held-out pictures that it then tells apart.

        Args:
            module: is trained.
            generator: of the order of the pictures.

        Raises:
            UsageError: it does not give a score for each class.
        """
        self._train(module, generator)
        return self._correct(module)

    def _train(self, module: nn.Module, generator: torch.Generator) -> None:
        """Train until the loss on other pictures stops falling; the module then has the weights of the smallest."""
        optimizer = torch.optim.AdamW(module.parameters(), lr=_RATE)
        batch = max(_LEAST_BATCH, min(_BATCH, len(self.train.classes) // _STEPS))
        best, best_state, waited = float("inf"), copy.deepcopy(module.state_dict()), 0
        for _ in range(EPOCHS):
            module.train()
            for chosen in torch.randperm(len(self.train.classes), generator=generator).split(batch):
                if len(chosen) == 1:
                    continue  # normalisation over a batch needs two
                part = self.train.part(chosen)
                optimizer.zero_grad()
                nn.functional.cross_entropy(self._scores(module, part), part.classes).backward()
                optimizer.step()
            loss = self._loss(module)
            if loss < best:
                best, best_state, waited = loss, copy.deepcopy(module.state_dict()), 0
            else:
                waited += 1
            if waited == PATIENCE:
                break
        module.load_state_dict(best_state)

    def _scores(self, module: nn.Module, part: Labelled) -> torch.Tensor:
        scores: torch.Tensor = module(self.prepare(part.pictures))
        if scores.ndim != 2 or scores.shape[1] < self.classes:
            raise UsageError(
                f"{self.name} needs scores of at least {self.classes} classes for each picture, and the network gives "
                f"{tuple(scores.shape[1:])}: set classes = {self.classes}"
            )
        return scores

    @torch.no_grad()
    def _loss(self, module: nn.Module) -> float:
        module.eval()
        total = 0.0
        for chosen in torch.arange(len(self.stop.classes)).split(_BATCH):
            part = self.stop.part(chosen)
            total += float(nn.functional.cross_entropy(self._scores(module, part), part.classes, reduction="sum"))
        return total / len(self.stop.classes)

    @torch.no_grad()
    def _correct(self, module: nn.Module) -> float:
        module.eval()
        right = 0
        for chosen in torch.arange(len(self.held_out.classes)).split(_BATCH):
            part = self.held_out.part(chosen)
            right += int((self._scores(module, part).argmax(dim=1) == part.classes).sum())
        return right / len(self.held_out.classes)
