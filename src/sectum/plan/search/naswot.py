"""NASWOT: how differently an untrained network reacts to different inputs. Importing this loads torch.

Mellor et al. 2021, "Neural architecture search without training": each nonlinearity turns an input into a binary code,
which units are above 0. The kernel of two inputs is the number of units, over all nonlinearities, that agree. The score
is the logarithm of the determinant of the kernel of a batch. The batch here is noise, so no data set is needed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sectum.errors import UsageError
from sectum.plan.search.network import as_module, pictures_for

BATCH = 16
"""Inputs whose codes are compared."""
_NONLINEARITIES = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.GELU)


def naswot(network: object) -> float:
    """Logarithm of the determinant of the kernel of a batch of noise. Higher is better.

    Args:
        network: a `sectum.zoo.Architecture`, a module, or a pair of a module and its example inputs. A module is scored
            with the weights that it has, an architecture with initial weights.

    Raises:
        UsageError: the network has none of the nonlinearities that codes are read from, or takes other inputs than
            pictures.
    """
    module = as_module(network)
    shape = pictures_for(network)
    agreeing = torch.zeros(BATCH, BATCH, dtype=torch.float64)

    def count(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        code = (inputs[0].detach().reshape(BATCH, -1) > 0).float()
        agreeing.add_((code @ code.T + (1 - code) @ (1 - code).T).double())

    parts = [part for part in module.modules() if isinstance(part, _NONLINEARITIES)]
    if not parts:
        raise UsageError(
            f"naswot reads codes from nonlinearities, and {type(module).__name__} has no module of torch.nn that is "
            f"one ({', '.join(kind.__name__ for kind in _NONLINEARITIES)}): use a function of your own"
        )
    hooks = [part.register_forward_pre_hook(count) for part in parts]
    training = module.training
    try:
        noise = torch.randn(BATCH, *shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            module.train()(noise)
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()
    sign, logarithm = torch.linalg.slogdet(agreeing)
    return float(logarithm) if sign > 0 else -torch.inf
