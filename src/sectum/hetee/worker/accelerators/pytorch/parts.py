"""Splits a step over several accelerators, and averages their gradients. Importing this loads PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from threading import BrokenBarrierError
from typing import NamedTuple

import torch
from torch.nn import functional

from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.worker.accelerators.protocol import Stop
from sectum.hetee.worker.accelerators.pytorch.network import Network, ZooNetwork, nothing
from sectum.hetee.worker.accelerators.pytorch.onnx_network import OnnxNetwork
from sectum.hetee.worker.accelerators.pytorch.together import Exchange, Together
from sectum.hetee.worker.models import batch_refused
from sectum.hetee.worker.team import Helper
from sectum.hetee.worker.training.checked_job import CheckedJob


class Batch(NamedTuple):
    """A batch of a step.

    Attributes:
        pictures: its inputs.
        labels: the class of each.
        seed: what is drawn in this step depends on it.
        stop: when it is true, the step ends early.
        begin: number of the items of the step before these, which other workers have.
        step_items: number of the items of the step; 0 if they are all here.
    """

    pictures: torch.Tensor
    labels: torch.Tensor
    seed: int
    stop: Stop
    begin: int = 0
    step_items: int = 0


def made(job: CheckedJob, device: str) -> Network:
    """The network of a job, with new weights.

    Raises:
        WorkRefused: ``MODEL_REFUSED``, it cannot be made.
    """
    described = job.job
    try:
        onnx = job.sources[described.onnx[0]].content if described.onnx else None
        network: Network = ZooNetwork(described, device) if onnx is None else OnnxNetwork(onnx, device)
        for value in network.parameters.values():
            value.requires_grad_(True)
            value.register_hook(lambda _gradient: network.watch())  # type: ignore[no-untyped-call]
    except (MemoryError, HeteeError):
        raise
    except Exception as error:  # noqa: BLE001  # a hostile job may make it raise anything
        raise refusal(Refusal.MODEL_REFUSED, f"the network cannot be made: {error}"[:500]) from None
    return network


class NetworkCopy:
    """A job's network on another accelerator than the job's.

    Args:
        job: the job.
        forget: called when it is unloaded.
        device: where it computes, as PyTorch names it.
    """

    def __init__(self, job: CheckedJob, forget: Callable[[NetworkCopy], None], device: str) -> None:
        self._forget, self._device = forget, device
        self._network: Network | None = made(job, device)

    def gradients(self, source: Network, batch: Batch, exchange: Exchange, part: int, parts: int) -> Network:
        """Compute the gradients of a part of a batch for the parameters of ``source``; returns the network with them.

        Raises:
            WorkRefused: as `loss_of`.
        """
        if self._network is None:
            raise refusal(Refusal.COMPUTE_FAILED, "the accelerator was reset and no longer has the job")
        with torch.no_grad():
            for ours, theirs in (
                (self._network.parameters, source.parameters),
                (self._network.buffers, source.buffers),
            ):
                for name, value in ours.items():
                    value.copy_(theirs[name])
        loss_of(self._network, self._device, batch, exchange, part, parts)
        return self._network

    def unload(self) -> None:
        """Drop the network."""
        self._network = None
        self._forget(self)


def loss_of(
    network: Network, device: str, batch: Batch, exchange: Exchange | None = None, part: int = 0, parts: int = 1
) -> torch.Tensor:
    """The loss of a whole batch; the parameters get the gradients of one part, as a share of the batch's.

    Raises:
        WorkRefused: ``INPUT_REFUSED``, the labels are no classes; ``CANCELLED``, it was stopped.
    """
    for value in network.parameters.values():
        value.grad = None
    pictures, labels = (torch.tensor_split(whole, parts)[part].to(device) for whole in batch[:2])
    items = len(batch.pictures)
    mode: AbstractContextManager[object] = nullcontext()
    if exchange is None and batch.step_items:  # dropout draws for the whole step
        exchange = Exchange(1)
    if exchange is None:
        torch.manual_seed(batch.seed)
    else:
        begin = batch.begin + sum(map(len, torch.tensor_split(batch.pictures, parts)[:part]))
        mode = Together(exchange, part, begin, batch.step_items or items, batch.seed)
    with stopping(network, batch.stop):
        with mode:
            scores = network.scores(pictures, training=True)
        _check_labels(labels, scores)
        loss = functional.cross_entropy(scores, labels)
        if exchange is not None:
            loss = loss * (len(pictures) / items)
        loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach() if exchange is None else exchange.sum(part, loss.detach())


def shared_loss(network: Network, device: str, batch: Batch, helpers: Sequence[Helper]) -> torch.Tensor:
    """The loss of a batch that several accelerators share; the parameters of ``network`` get its gradients.

    Raises:
        WorkRefused: as `loss_of`; or for what happened on another accelerator.
    """
    parts = 1 + len(helpers)
    exchange = Exchange(parts)
    others: list[Future[Network]] = []
    for part, helper in enumerate(helpers, 1):
        others.append(helper.submit(partial(_of_copy, network, batch, exchange, part, parts)))
        others[-1].add_done_callback(lambda done: exchange.abort() if done.exception() else None)
    errors: list[BaseException] = []
    loss = torch.empty(0)
    try:
        loss = loss_of(network, device, batch, exchange, 0, parts)
    except BaseException as error:  # noqa: BLE001  # raised when the others have ended
        exchange.abort()
        errors.append(error)
    errors += [failed for other in others if (failed := other.exception()) is not None]
    if errors:  # those that waited for one that failed say nothing
        raise next((error for error in errors if not isinstance(error, BrokenBarrierError)), errors[0])
    for other in others:
        theirs = other.result().parameters
        for name, value in network.parameters.items():
            if value.grad is not None:
                value.grad += theirs[name].grad.to(device)  # type: ignore[union-attr]  # the same network
    return loss


def _of_copy(source: Network, batch: Batch, exchange: Exchange, part: int, parts: int, copy: NetworkCopy) -> Network:
    return copy.gradients(source, batch, exchange, part, parts)


@contextmanager
def stopping(network: Network, stop: Stop) -> Iterator[None]:
    """In a ``with`` statement: whatever the network computes ends soon after ``stop`` has become true.

    Raises:
        WorkRefused: ``CANCELLED``, it was stopped.
    """

    def watch() -> None:
        if stop:
            raise refusal(Refusal.CANCELLED, "the step was stopped")

    network.watch = watch
    try:
        yield
    finally:
        network.watch = nothing


def _check_labels(labels: torch.Tensor, scores: torch.Tensor) -> None:
    least, most = (int(labels.min()), int(labels.max())) if labels.numel() else (0, -1)
    if labels.shape != scores.shape[:1] or not 0 <= least <= most < scores.shape[1]:
        raise batch_refused(
            f"labels of shape {list(labels.shape)} from {least} to {most} for scores of shape {list(scores.shape)}; "
            "expected the number of a class for each item"
        )
