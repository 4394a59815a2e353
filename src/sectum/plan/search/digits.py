"""Training on the handwritten digits that scikit-learn ships. Importing this loads torch.

1,797 pictures of 8x8 pixels: 1,077 to train with, 360 that say when to stop, and 360 for the score. The split, the
order and the initial weights are seeded, so that an architecture always gets the same score on one machine.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

from sectum.errors import UsageError
from sectum.extras import require
from sectum.plan.search.network import as_module, pictures_for

EPOCHS, PATIENCE = 20, 3
"""Training ends after so many passes, or after so many in a row without a smaller loss on the pictures that say so."""
_BATCH, _RATE, _CLASSES = 64, 1e-3, 10
_SHARES = (1077, 360)


@dataclass(frozen=True, slots=True)
class _Pictures:
    """Pictures ``(n, 1, 8, 8)`` from 0 to 1, and their digits ``(n,)``."""

    images: torch.Tensor
    digits: torch.Tensor

    def part(self, chosen: torch.Tensor) -> _Pictures:
        return _Pictures(self.images[chosen], self.digits[chosen])


def digits(network: object) -> float:
    """Share of the digits held out that the trained network tells apart. Higher is better.

    Args:
        network: a `sectum.zoo.Architecture`, a module, or a pair of a module and its example inputs. It takes pictures,
            whose size the digits are enlarged to, and gives ten scores or more. A module is trained from the weights
            that it has, and left as it was.

    Raises:
        UsageError: PyTorch or scikit-learn is not installed, or the network gives fewer than ten scores.
    """
    shape = pictures_for(network)
    module = copy.deepcopy(as_module(network))
    everything = _load()
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(everything.digits), generator=generator)
    train, stop, score = (everything.part(part) for part in order.tensor_split([_SHARES[0], sum(_SHARES)]))
    _train(module, shape, train, stop, generator)
    return _correct(module, shape, score)


def _train(
    module: nn.Module, shape: tuple[int, int, int], train: _Pictures, stop: _Pictures, generator: torch.Generator
) -> None:
    """Train until the loss on other pictures stops falling; the module then has the weights of the smallest."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=_RATE)
    best, best_state, waited = float("inf"), copy.deepcopy(module.state_dict()), 0
    for _ in range(EPOCHS):
        module.train()
        for chosen in torch.randperm(len(train.digits), generator=generator).split(_BATCH):
            part = train.part(chosen)
            optimizer.zero_grad()
            nn.functional.cross_entropy(_scores(module, shape, part), part.digits).backward()
            optimizer.step()
        loss = _loss(module, shape, stop)
        if loss < best:
            best, best_state, waited = loss, copy.deepcopy(module.state_dict()), 0
        else:
            waited += 1
        if waited == PATIENCE:
            break
    module.load_state_dict(best_state)


def _scores(module: nn.Module, shape: tuple[int, int, int], pictures: _Pictures) -> torch.Tensor:
    channels, height, width = shape
    enlarged = nn.functional.interpolate(pictures.images, size=(height, width), mode="bilinear")
    scores: torch.Tensor = module(enlarged.expand(-1, channels, -1, -1))
    if scores.ndim != 2 or scores.shape[1] < _CLASSES:
        raise UsageError(
            f"digits needs scores of at least {_CLASSES} classes for each picture, and the network gives "
            f"{tuple(scores.shape[1:])}: set classes = {_CLASSES}"
        )
    return scores


@torch.no_grad()
def _loss(module: nn.Module, shape: tuple[int, int, int], pictures: _Pictures) -> float:
    module.eval()
    total = 0.0
    for chosen in torch.arange(len(pictures.digits)).split(_BATCH):
        part = pictures.part(chosen)
        total += float(nn.functional.cross_entropy(_scores(module, shape, part), part.digits, reduction="sum"))
    return total / len(pictures.digits)


@torch.no_grad()
def _correct(module: nn.Module, shape: tuple[int, int, int], pictures: _Pictures) -> float:
    module.eval()
    right = 0
    for chosen in torch.arange(len(pictures.digits)).split(_BATCH):
        part = pictures.part(chosen)
        right += int((_scores(module, shape, part).argmax(dim=1) == part.digits).sum())
    return right / len(pictures.digits)


def _load() -> _Pictures:
    datasets = require(
        "sklearn.datasets", "the objective digits needs scikit-learn, which ships the pictures", "search"
    )
    found = datasets.load_digits()
    images = torch.from_numpy(found.images).float()[:, None] / 16
    return _Pictures(images, torch.from_numpy(found.target).long())
