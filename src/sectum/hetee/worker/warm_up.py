"""Does everything once before confinement, so that libraries load and read all files that they need later."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sectum.graph.protobuf import encode_bytes, encode_number
from sectum.hetee.channel.release import release
from sectum.hetee.channel.secret import Secret
from sectum.hetee.data_plane.channel import data_channel
from sectum.hetee.data_plane.messages import Pace, Pixels, Tensor, Work
from sectum.hetee.data_plane.receipts import STEPS, Receipt, ReceiptSigner
from sectum.hetee.data_plane.release_key import WorkerKey
from sectum.hetee.data_plane.tensors import layout
from sectum.hetee.errors import HeteeError
from sectum.hetee.training.job import LABELS, Optimiser, TrainingJob, write_job
from sectum.hetee.wire.header import Header
from sectum.hetee.wire.kinds import Kind, Role
from sectum.hetee.worker.accelerators import accelerator
from sectum.hetee.worker.accelerators.protocol import Stop
from sectum.hetee.worker.buffers import Buffers
from sectum.hetee.worker.models import inspect
from sectum.hetee.worker.preparation import Preparation, as_tensor
from sectum.hetee.worker.training.checked_job import inspect_job

_SIDE = 8
_SESSION = b"warm-up session."


def warm_up(names: Sequence[str], threads: int, devices: tuple[str, ...] = (), *, training: bool = False) -> None:
    """Pass one image through every step on each of these accelerators, with throw-away keys and a throw-away model.

    Args:
        names: names of accelerators.
        threads: number of threads that compute one batch on a CPU.
        devices: the accelerators with device nodes that this worker owns.
        training: whether to load PyTorch, and train for a few steps.
    """
    model = inspect(_convolution())
    file = io.BytesIO()
    Image.new("RGB", (2 * _SIDE, 2 * _SIDE)).save(file, "JPEG")
    data = memoryview(bytearray(file.getvalue()))
    pixels = Pixels(mean=(1.0, 2.0, 3.0), shorter=_SIDE)
    tensor = Tensor(name="x", dtype="uint8", shape=(1,), encoding="jpeg", sizes=(len(data),), pixels=(pixels,))
    preparation = Preparation(layout((tensor,)), model.inputs, data, Buffers(0).take)
    for task in preparation.due(len(data)):
        task()
    for name in names:
        device = accelerator(name, threads=threads, devices=devices)
        pace = Pace(preprocess_us=0, compute_us=1, source="warm-up") if device.paced else None
        for output in device.load(model).run(preparation.arrays, ("y",), Stop(), pace):
            as_tensor("y", output)
        device.reset()
    if training:
        _train()
    key = WorkerKey()
    secret = key.accept(release(Secret(bytes(32)), key.public, _SESSION, 0), _SESSION, 0)
    sealer, opener = data_channel(Role.WORKER, secret, _SESSION)
    sealer.seal(Kind.CREDIT, b"")
    with suppress(HeteeError):
        opener.open(Header(Kind.FINISH, 16, session=_SESSION), bytes(16))
    times_ns = dict.fromkeys(STEPS, 0)
    ReceiptSigner().sign(Receipt(_SESSION, 0, 1, model.sha256, bytes(32), times_ns, False, 1, "none"))


def _train() -> None:
    """Train for a step with each optimiser, go on from a checkpoint, and compute a part of a batch.

    With one thread, since others would stay.
    """
    import torch

    from sectum.hetee.worker.accelerators.pytorch.parts import Batch, loss_of, made
    from sectum.hetee.worker.accelerators.pytorch.together import Exchange
    from sectum.hetee.worker.accelerators.pytorch.trainer import Trainer, settle

    settle(1)
    for kind in ("sgd", "adam"):
        optimiser = Optimiser(kind=kind, rate=0.1, momentum=0.9 if kind == "sgd" else 0.0)
        content = write_job(TrainingJob(optimiser=optimiser, network="shufflenet_v2_x0_5", classes=2, resolution=32))
        job = inspect_job(content, hashlib.sha256(content).digest(), {})
        arrays: dict[str, NDArray[Any]] = {"input": np.ones((2, 3, 32, 32), np.float32), LABELS: np.zeros(2, np.int64)}
        trainer = Trainer(job, lambda _trainer: None)
        trainer.run(Work(kind="train", step=1), arrays, Stop(), lambda: None)
        trainer.park()
        trainer = Trainer(job, lambda _trainer: None)
        trainer.run(Work(kind="score", step=1), arrays, Stop(), lambda: None)
        trainer.run(Work(kind="checkpoint", step=1), {}, Stop(), lambda: None)
        trainer.unload()
    batch = Batch(torch.from_numpy(arrays["input"]), torch.from_numpy(arrays[LABELS]), 0, Stop())
    loss_of(made(job, "cpu"), "cpu", batch, Exchange(1))


def _convolution() -> bytes:
    """An ONNX model, written with the field numbers of onnx.proto: ``y`` is a convolution of ``x`` [1, 3, 8, 8]."""

    def value(name: bytes, *shape: int) -> bytes:
        dimensions = b"".join(encode_bytes(1, encode_number(1, size)) for size in shape)
        return encode_bytes(1, name) + encode_bytes(
            2, encode_bytes(1, encode_number(1, 1) + encode_bytes(2, dimensions))
        )

    weights = np.ones((4, 3, 3, 3), np.float32)
    initialiser = b"".join(encode_number(1, size) for size in weights.shape)
    initialiser += encode_number(2, 1) + encode_bytes(8, b"w") + encode_bytes(9, weights.tobytes())
    node = encode_bytes(1, b"x") + encode_bytes(1, b"w") + encode_bytes(2, b"y") + encode_bytes(4, b"Conv")
    graph = encode_bytes(1, node) + encode_bytes(2, b"warm-up") + encode_bytes(5, initialiser)
    graph += encode_bytes(11, value(b"x", 1, 3, _SIDE, _SIDE)) + encode_bytes(
        12, value(b"y", 1, 4, _SIDE - 2, _SIDE - 2)
    )
    return encode_number(1, 8) + encode_bytes(7, graph) + encode_bytes(8, encode_number(2, 17))
