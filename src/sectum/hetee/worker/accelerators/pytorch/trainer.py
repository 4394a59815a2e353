"""Trains one job with PyTorch on one accelerator. Importing this loads PyTorch.

A confined process can make no page executable, so oneDNN, which compiles its kernels while it runs, is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sectum.hetee.data_plane.messages import Pace, Work
from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.training.exchange import BLOCKS, GRADIENTS, MEMBERSHIP
from sectum.hetee.training.job import CHECKPOINT, LABELS, LOSS, PART_BYTES, SCORES, SIZE, STATE
from sectum.hetee.training.tensor_file import StoredTensor, TensorFile, pieces, read_tensors
from sectum.hetee.worker.accelerators.protocol import Arrays, Stop
from sectum.hetee.worker.accelerators.pytorch.exchanged import pending_of, put_back, take_over
from sectum.hetee.worker.accelerators.pytorch.network import Network
from sectum.hetee.worker.accelerators.pytorch.optimisers import OptimiserState
from sectum.hetee.worker.accelerators.pytorch.parts import Batch, loss_of, made, shared_loss, stopping
from sectum.hetee.worker.models import batch_refused
from sectum.hetee.worker.team import Helper
from sectum.hetee.worker.training.checked_job import CheckedJob, begins
from sectum.hetee.worker.training.gradient_exchange import GradientExchange

FORMAT = "sectum-hetee-checkpoint-1"
_LOST = TensorFile({}, {})  # what is parked where there is no state
_STORED = {torch.float32: "F32", torch.int64: "I64"}
_LOADED = {name: dtype for dtype, name in _STORED.items()}


def settle(threads: int, device: str = "cpu") -> None:
    """Have PyTorch compute without code that it makes while it runs, and on a CPU give the same numbers each time.

    Args:
        threads: number of threads that compute one batch.
        device: where it computes, as PyTorch names it.
    """
    torch.backends.mkldnn.set_flags(_enabled=False)  # type: ignore[no-untyped-call]
    torch.backends.nnpack.set_flags(False)  # type: ignore[no-untyped-call]
    # `torch.use_deterministic_algorithms` does this, but loads PyTorch's compiler first, which looks for folders.
    torch._C._set_deterministic_algorithms(device == "cpu", warn_only=False)
    torch._C._set_deterministic_fill_uninitialized_memory(False)
    torch.set_num_threads(threads)
    # Two modules that PyTorch makes name their file without its folder, so that they look as if they were foreign.
    for module in (torch.ops, torch.classes):
        module.__file__ = str(Path(torch.__file__).with_name(Path(module.__file__).name))


class Trainer:
    """A job on an accelerator.

    Args:
        job: the checked job; its parked state is taken, if it has one.
        forget: called when it is unloaded.
        device: where it computes, as PyTorch names it.

    Raises:
        WorkRefused: ``MODEL_REFUSED``, the network cannot be made, or a file does not fit it.
    """

    def __init__(self, job: CheckedJob, forget: Callable[[Trainer], None], device: str = "cpu") -> None:
        self._job, self._forget, self._device = job, forget, device
        described = job.job
        network = made(job, device)
        self._network: Network | None = network
        self._optimiser = OptimiserState(described.optimiser, network.parameters)
        self._step, self._state = 0, bytes(0)
        self._snapshot: tuple[int, memoryview] | None = None
        if job.parked:
            if job.parked[0] is _LOST:
                detail = "the job's state was lost; go on from a checkpoint, in another job"
                raise refusal(Refusal.COMPUTE_FAILED, detail)
            self._restore(job.parked.pop())
        elif described.checkpoint:
            self._restore(read_tensors(job.file(described.checkpoint)))
            if self._step != described.step:
                detail = f"the checkpoint has done {self._step} steps, the job says {described.step}"
                raise refusal(Refusal.MODEL_REFUSED, detail)
        elif described.weights:
            given = read_tensors(job.file(described.weights)).tensors
            _load(
                {name: value for name, value in self._model().items() if name in {*given, *network.parameters}}, given
            )
        for digest in (*described.weights, *described.checkpoint):  # their content is in the state now
            job.sources.pop(digest, None)

    def run(
        self,
        work: Work,
        arrays: Arrays,
        stop: Stop,
        commit: Callable[[], None],
        pace: Pace | None = None,
        helpers: Sequence[Helper] = (),
    ) -> dict[str, NDArray[Any]]:
        """Do what a batch asks for.

        Args:
            work: what to do.
            arrays: the batch's inputs by name.
            stop: looked at before each layer, and for each gradient.
            commit: called once before the state changes; raises if nobody wants the answer any more.
            pace: must be None.
            helpers: accelerators that compute a part of the batch.

        Raises:
            WorkRefused: ``INPUT_REFUSED``, it is not the next step or does not fit; ``COMPUTE_FAILED``; ``CANCELLED``.
        """
        assert pace is None
        network = self._network
        if network is None:
            raise refusal(Refusal.COMPUTE_FAILED, "the accelerator was reset and no longer has the job")
        begins(work, self._step)
        try:
            if work.kind == "checkpoint":
                return self._part(work.begin)
            if work.kind == "join":
                self._job.joined[:] = [GradientExchange(arrays[MEMBERSHIP].tobytes(), self._job.sha256)]
                return {STATE: np.frombuffer(self._digest(), np.uint8)}
            if work.kind == "apply":
                return self._apply_average(network, work, arrays[BLOCKS], commit)
            if work.kind == "gradients" and work.begin:
                return self._sealed(work)
            pictures = torch.from_numpy(next(array for name, array in arrays.items() if name != LABELS))
            if work.kind == "score":
                with torch.no_grad(), stopping(network, stop):
                    return {SCORES: network.scores(pictures.to(self._device), training=False).cpu().numpy()}
            seed = (self._job.job.seed << 32) ^ work.step  # so a checkpoint needs no state of what draws
            batch = Batch(pictures, torch.from_numpy(arrays[LABELS]), seed, stop)
            if work.kind == "gradients":
                return self._gradients(network, work, batch, helpers)
            return self._train(network, work, batch, commit, helpers)
        except (MemoryError, HeteeError):
            raise
        except Exception as error:  # noqa: BLE001  # a hostile model may make it raise anything
            if "not enough memory" in str(error) or "t allocate memory" in str(error):
                raise MemoryError from None
            raise refusal(Refusal.COMPUTE_FAILED, f"PyTorch failed: {error}"[:500]) from None

    def _train(
        self, network: Network, work: Work, batch: Batch, commit: Callable[[], None], helpers: Sequence[Helper]
    ) -> dict[str, NDArray[Any]]:
        kept = {name: value.clone() for name, value in network.buffers.items()}
        try:
            loss = self._loss(network, batch, helpers)
            commit()
        except BaseException:
            put_back(network, kept)  # a step that is refused has changed nothing
            raise
        return self._changed(work, lambda: float(loss.item()))

    def _loss(self, network: Network, batch: Batch, helpers: Sequence[Helper]) -> torch.Tensor:
        if helpers:
            return shared_loss(network, self._device, batch, helpers)
        return loss_of(network, self._device, batch)

    def _gradients(
        self, network: Network, work: Work, batch: Batch, helpers: Sequence[Helper]
    ) -> dict[str, NDArray[Any]]:
        """Compute this worker's part of a step, which other workers share; it changes nothing but the exchange."""
        exchange = self._job.exchange
        exchange.check(work, len(batch.pictures))
        begin, items = sum(work.shares[: exchange.rank]), sum(work.shares)
        kept = {name: value.clone() for name, value in network.buffers.items()}
        try:
            loss = self._loss(network, batch._replace(begin=begin, step_items=items), helpers)
            pending = pending_of(network, loss)
        finally:
            put_back(network, kept)
        exchange.begin(work, pending)
        return self._sealed(work)

    def _sealed(self, work: Work) -> dict[str, NDArray[Any]]:
        exchange = self._job.exchange
        return {GRADIENTS: exchange.sealed(work), SIZE: np.asarray(exchange.blocks, np.int64)}

    def _apply_average(
        self, network: Network, work: Work, blocks: NDArray[Any], commit: Callable[[], None]
    ) -> dict[str, NDArray[Any]]:
        pending = self._job.exchange.add(work, blocks)
        if pending is None:
            return {LOSS: np.zeros((), np.float32), STATE: np.zeros(0, np.uint8)}
        commit()
        return self._changed(work, lambda: take_over(network, pending, self._device))

    def _changed(self, work: Work, take_gradients: Callable[[], float]) -> dict[str, NDArray[Any]]:
        """Change the parameters by their gradients, which ``take_gradients`` provides with the loss."""
        described = self._job.job
        try:
            loss = take_gradients()
            self._optimiser.apply(work.step, work.rate[0] if work.rate else described.optimiser.rate)
            self._step = work.step
            due = described.state_every and not work.step % described.state_every
            state = self._digest() if due else b""
            return {LOSS: np.asarray(loss, np.float32), STATE: np.frombuffer(state, np.uint8)}
        except Exception:  # noqa: BLE001  # whatever it was, a part of the parameters may have changed
            self._network = None
            detail = "the job's state was lost in the middle of a step; go on from a checkpoint"
            raise refusal(Refusal.COMPUTE_FAILED, detail) from None

    def _model(self) -> dict[str, torch.Tensor]:
        assert self._network is not None
        return {**self._network.parameters, **self._network.buffers}

    def _everything(self) -> dict[str, torch.Tensor]:
        found = {f"model.{name}": value for name, value in self._model().items()}
        return found | {f"optimiser.{name}": value for name, value in self._optimiser.tensors.items()}

    def _checkpoint(self) -> TensorFile:
        about = {"format": FORMAT, "step": str(self._step), "structure": self._job.job.structure}
        return TensorFile(about, {name: _stored(value) for name, value in self._everything().items()})

    def _digest(self) -> bytes:
        whole = hashlib.sha256()
        for piece in pieces(*self._checkpoint()):
            whole.update(piece)
        return whole.digest()

    def _bytes(self) -> memoryview:
        """The checkpoint as a file. NumPy copies it without the interpreter's lock, so that others are answered."""
        made = [np.frombuffer(piece, np.uint8) for piece in pieces(*self._checkpoint())]
        whole, at = np.empty(sum(map(len, made)), np.uint8), 0
        for piece in made:
            whole[at : at + len(piece)] = piece
            at += len(piece)
        return whole.data

    def _part(self, begin: int) -> dict[str, NDArray[Any]]:
        """A part of the checkpoint; it is made anew when its first part is asked for, and equal until the next step."""
        if self._snapshot is None or self._snapshot[0] != self._step:
            self._snapshot = self._step, self._bytes()
            self._state = hashlib.sha256(self._snapshot[1]).digest()
        whole = self._snapshot[1]
        if begin > len(whole):
            raise batch_refused(f"a part of a checkpoint from byte {begin} on, it has {len(whole)} bytes")
        part = whole[begin : begin + PART_BYTES]
        if begin + len(part) == len(whole):
            self._snapshot = None
        return {
            CHECKPOINT: np.frombuffer(part, np.uint8),
            SIZE: np.asarray(len(whole), np.int64),
            STATE: np.frombuffer(self._state, np.uint8),
        }

    def _restore(self, file: TensorFile) -> None:
        about, described = file.about, self._job.job
        if about.get("format") != FORMAT or not about.get("step", "").isdecimal() or len(about["step"]) > 18:
            raise refusal(Refusal.MODEL_REFUSED, "the file is no checkpoint of a training job")
        if about.get("structure") != described.structure:
            detail = "the checkpoint is of another network or optimiser than the job's"
            raise refusal(Refusal.MODEL_REFUSED, detail)
        _load(self._everything(), file.tensors)
        self._step = int(about["step"])

    def park(self) -> None:
        """Keep the state in the memory of this process, and leave the accelerator. On a CPU nothing is copied."""
        try:
            state = self._checkpoint() if self._network is not None else _LOST
        except (MemoryError, RuntimeError):  # no room for what comes from a device
            state = _LOST
        self._job.parked[:] = [state]
        self.unload()

    def unload(self) -> None:
        """Drop the state."""
        self._network = self._snapshot = None
        self._optimiser.tensors.clear()
        self._forget(self)


@torch.no_grad()
def _load(wanted: Mapping[str, torch.Tensor], given: Mapping[str, StoredTensor]) -> None:
    """Copy stored tensors into the tensors of their names: exactly these, with their shapes and types."""
    for one in sorted(set(wanted) ^ set(given))[:1]:
        where = "is not in the file" if one in wanted else "is in the file, but not in the network"
        raise refusal(Refusal.MODEL_REFUSED, f"the tensor '{one[:80]}' {where}")
    for name, tensor in wanted.items():
        stored = given[name]
        if _LOADED.get(stored.dtype) is not tensor.dtype or stored.shape != tuple(tensor.shape):
            detail = f"the tensor '{name[:80]}' is {stored.dtype} {list(stored.shape)} in the file, expected "
            raise refusal(Refusal.MODEL_REFUSED, f"{detail}{_STORED[tensor.dtype]} {list(tensor.shape)}")
        if stored.data:
            values = np.frombuffer(stored.data, "<f4" if stored.dtype == "F32" else "<i8")
            tensor.copy_(torch.from_numpy(values.copy()).reshape(tensor.shape))


def _stored(tensor: torch.Tensor) -> StoredTensor:
    array = tensor.detach().cpu().contiguous().numpy()
    data = array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
    return StoredTensor(_STORED[tensor.dtype], tuple(tensor.shape), data)
