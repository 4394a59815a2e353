"""Training on the handwritten digits that scikit-learn ships. Importing this loads torch.

1,797 pictures of 8x8 pixels: 1,077 to train with, 360 that say when to stop, and 360 for the score. The split, the
order and the initial weights are seeded, so that an architecture always gets the same score on one machine.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from sectum.extras import require
from sectum.plan.search.network import as_module, pictures_for
from sectum.plan.search.training import Labelled, Task

_CLASSES = 10
_SHARES = (1077, 360)


def digits(network: object) -> float:
    """Share of the digits held out that the trained network tells apart. Higher is better.

    Args:
        network: a `sectum.zoo.Architecture`, a module, or a pair of a module and its example inputs. It takes pictures,
            whose size the digits are enlarged to, and gives ten scores or more. A module is trained from the weights
            that it has, and left as it was.

    Raises:
        UsageError: PyTorch or scikit-learn is not installed, or the network gives fewer than ten scores.
    """
    channels, height, width = pictures_for(network)
    module = copy.deepcopy(as_module(network))
    everything = _load()
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(everything.classes), generator=generator)
    train, stop, held_out = (everything.part(part) for part in order.tensor_split([_SHARES[0], sum(_SHARES)]))

    def prepare(pictures: torch.Tensor) -> torch.Tensor:
        enlarged = nn.functional.interpolate(pictures, size=(height, width), mode="bilinear")
        return enlarged.expand(-1, channels, -1, -1)

    return Task("digits", train, stop, held_out, _CLASSES, prepare).score(module, generator)


def _load() -> Labelled:
    datasets = require(
        "sklearn.datasets", "the objective digits needs scikit-learn, which ships the pictures", "search"
    )
    found = datasets.load_digits()
    images = torch.from_numpy(found.images).float()[:, None] / 16
    return Labelled(images, torch.from_numpy(found.target).long())
