"""SGD with momentum, and Adam: the arithmetic of `torch.optim`, operation by operation, without its imports."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sectum.hetee.training.job import Optimiser

_SLOTS = {"sgd": ("momentum",), "adam": ("mean", "square")}


class OptimiserState:
    """Changes parameters, and keeps what it remembers of their gradients. All memory is taken when it is made.

    Args:
        chosen: how parameters are changed.
        parameters: tensors by name.

    Attributes:
        tensors: what it remembers, by the slot's and the parameter's name.
    """

    def __init__(self, chosen: Optimiser, parameters: Mapping[str, torch.Tensor]) -> None:
        self._chosen, self._parameters = chosen, parameters
        slots = _SLOTS[chosen.kind] if chosen.kind == "adam" or chosen.momentum else ()
        self.tensors = {
            f"{slot}.{name}": torch.zeros_like(value) for slot in slots for name, value in parameters.items()
        }

    @torch.no_grad()
    def apply(self, step: int, rate: float) -> None:
        """Change every parameter that has a gradient.

        Args:
            step: number of this step, from 1.
            rate: learning rate.
        """
        chosen = self._chosen
        for name, value in self._parameters.items():
            gradient = value.grad
            if gradient is None:
                continue
            if chosen.weight_decay:
                gradient = gradient.add(value, alpha=chosen.weight_decay)
            if chosen.kind == "adam":
                self._adam(name, value, gradient, step, rate)
            elif chosen.momentum:
                # The first momentum is the gradient itself: 0 times the momentum, plus the gradient.
                kept = self.tensors[f"momentum.{name}"].mul_(chosen.momentum).add_(gradient)
                value.add_(kept, alpha=-rate)
            else:
                value.add_(gradient, alpha=-rate)

    def _adam(self, name: str, value: torch.Tensor, gradient: torch.Tensor, step: int, rate: float) -> None:
        chosen = self._chosen
        mean, square = self.tensors[f"mean.{name}"], self.tensors[f"square.{name}"]
        mean.lerp_(gradient, 1 - chosen.beta1)
        square.mul_(chosen.beta2).addcmul_(gradient, gradient, value=1 - chosen.beta2)
        divisor = (square.sqrt() / (1 - chosen.beta2**step) ** 0.5).add_(chosen.epsilon)
        value.addcdiv_(mean, divisor, value=-(rate / (1 - chosen.beta1**step)))
