"""Networks that compute parts of one batch together: what depends on the whole batch is computed as in one network.

Batch normalisation takes its mean and variance over all parts, and dropout draws for the whole batch. Importing this
loads PyTorch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class Exchange:
    """Adds up tensors of all parts. Each part calls it from a thread of its own, as often as the others.

    Args:
        parts: number of parts.
    """

    def __init__(self, parts: int) -> None:
        self._barrier = threading.Barrier(parts)
        self._given: list[torch.Tensor] = [torch.empty(0)] * parts

    def sum(self, part: int, value: torch.Tensor) -> torch.Tensor:
        """The sum of what all parts give, the same in each of them.

        Raises:
            BrokenBarrierError: another part has failed.
        """
        self._given[part] = value
        self._barrier.wait()
        total = torch.stack([given.to(value.device) for given in self._given]).sum(0)
        self._barrier.wait()
        return total

    def abort(self) -> None:
        """End the waiting of all parts: one has failed."""
        self._barrier.abort()


class Together(TorchFunctionMode):
    """In a ``with`` statement: networks compute one part of a batch.

    Args:
        exchange: of the batch.
        part: number of this part.
        begin: number of the items before this part.
        items: number of the items of the batch.
        seed: what is drawn depends on it, and not on the number of parts.
    """

    def __init__(self, exchange: Exchange, part: int, begin: int, items: int, seed: int) -> None:
        super().__init__()
        self._exchange, self._part, self._begin, self._items, self._seed = exchange, part, begin, items, seed
        self._draws: torch.Generator | None = None
        self._replaced: dict[Any, Callable[..., torch.Tensor]] = {
            functional.batch_norm: self._normalised,
            functional.dropout: self._dropped,
        }

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return self._replaced.get(function, function)(*args, **(kwargs or {}))

    def _normalised(
        self,
        picture: torch.Tensor,
        running_mean: torch.Tensor | None,
        running_variance: torch.Tensor | None,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> torch.Tensor:
        if not training:
            return functional.batch_norm(picture, running_mean, running_variance, weight, bias, False, momentum, eps)
        ones, zeros = picture.new_ones(picture.shape[1]), picture.new_zeros(picture.shape[1])
        weight, bias = ones if weight is None else weight, zeros if bias is None else bias
        made: tuple[torch.Tensor, ...] = _Normalised.apply(picture, weight, bias, eps, self._exchange, self._part)  # type: ignore[no-untyped-call]
        found, mean, variance, count = made
        if running_mean is not None and running_variance is not None:
            with torch.no_grad():
                running_mean.lerp_(mean, momentum)
                running_variance.lerp_(variance * (count / (count - 1)), momentum)
        return found

    def _dropped(
        self,
        value: torch.Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,  # noqa: ARG002
    ) -> torch.Tensor:
        if not training or not p:
            return value
        if self._draws is None:
            self._draws = torch.Generator(value.device)
            self._draws.manual_seed(self._seed)
        whole = value.new_empty((self._items, *value.shape[1:]))
        kept = whole.bernoulli_(1 - p, generator=self._draws)[self._begin : self._begin + len(value)]
        return value * (kept / (1 - p) if p < 1 else kept)


class _Normalised(torch.autograd.Function):
    """Batch normalisation with mean and variance over all parts of a batch, in two passes."""

    @staticmethod
    def forward(
        context: Any,
        picture: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        epsilon: float,
        exchange: Exchange,
        part: int,
    ) -> tuple[torch.Tensor, ...]:
        """The normalised picture; mean, variance and number of values of each channel."""
        across = [axis for axis in range(picture.ndim) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(picture.ndim)]
        own = picture.new_full((1,), picture.numel() / picture.shape[1])
        sums = exchange.sum(part, torch.cat([picture.sum(across), own]))
        count = sums[-1]
        mean = sums[:-1] / count
        centred = picture - mean.view(shape)
        variance = exchange.sum(part, centred.square().sum(across)) / count
        scale = (variance + epsilon).rsqrt()
        normal = centred * scale.view(shape)
        context.save_for_backward(normal, weight * scale, count)
        context.about = across, shape, exchange, part
        context.mark_non_differentiable(mean, variance, count)
        return normal * weight.view(shape) + bias.view(shape), mean, variance, count

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of picture, weight and bias."""
        normal, factor, count = context.saved_tensors
        across, shape, exchange, part = context.about
        given = gradients[0]
        bias, weight = given.sum(across), (given * normal).sum(across)
        of_bias, of_weight = exchange.sum(part, torch.stack([bias, weight])) / count
        picture = factor.view(shape) * (given - of_bias.view(shape) - normal * of_weight.view(shape))
        return picture, weight, bias, None, None, None
