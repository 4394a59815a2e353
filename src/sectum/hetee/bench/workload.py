"""The workload: the paper's networks, batches of images, and which steps are paced."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sectum.hetee.client.inputs import IMAGENET, Inputs
from sectum.hetee.data_plane.messages import Pace, Pixels
from sectum.hetee.training.job import Optimiser, TrainingJob
from sectum.hetee.wire.messages import AcceleratorKind
from sectum.hetee.worker.accelerators.published import Task, pace

PacedOrReal = Literal["paced", "real"]

SIDE = 224  # table II of the paper
CLASSES = 1000
_ZOO = {
    "VGG16": "vgg16",
    "GoogLeNet": "googlenet",
    "ResNet50": "resnet50",
    "ResNet101": "resnet101",
    "ResNet152": "resnet152",
}
# An average image of ImageNet's training set has about 500x375 pixels and 110 KB.
_PHOTOGRAPH = 500, 375
_QUALITY = 92
_PHOTOGRAPHS = 8


@dataclass(frozen=True)
class Mode:
    """Which steps are real. The others are paced with the times that the paper published.

    Attributes:
        real_decode: whether images are sent as JPEG files and decoded; otherwise they are sent as pixels.
        real_compute: whether the network is computed; then preprocessing is real, too.
        kind: kind of the accelerator; ``paced`` if nothing is computed.
    """

    real_decode: bool = False
    real_compute: bool = False
    kind: AcceleratorKind = "paced"

    @property
    def preprocess(self) -> PacedOrReal:
        """Whether preprocessing is paced or real."""
        return "real" if self.real_decode or self.real_compute else "paced"

    @property
    def compute(self) -> PacedOrReal:
        """Whether computing is paced or real."""
        return "real" if self.real_compute else "paced"


@dataclass(frozen=True)
class Workload:
    """One batch, which is sent repeatedly.

    Attributes:
        inputs: inputs, as a client passes them in.
        pixels: conversion of the pixels.
        pace: the times to wait for; None if nothing is paced.
        n_bytes: number of plaintext bytes sent to the worker.
        labels: the class of each image, for a step of training; None for inference.
    """

    inputs: Inputs
    pixels: Pixels | None
    pace: Pace | None
    n_bytes: int
    labels: NDArray[np.int64] | None = None


def model(network: str, mode: Mode) -> bytes:
    """The ONNX file of a network.

    If nothing is computed, this is a small model with the same input and output, because a paced accelerator needs only
    the shapes of the outputs.
    """
    if mode.real_compute:
        from sectum import zoo

        return zoo.to_bytes(zoo.network(_ZOO[network]))
    return _stand_in()


def _stand_in() -> bytes:
    from onnx import TensorProto, helper

    weights = helper.make_tensor("weights", TensorProto.FLOAT, [3, CLASSES], np.zeros((3, CLASSES), np.float32).ravel())
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["features"]),
        helper.make_node("MatMul", ["features", "weights"], ["scores"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])
    graph = helper.make_graph(nodes, "stand-in", [images], [scores], [weights])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return bytes(made.SerializeToString())


def workload(network: str, batch: int, mode: Mode, seed: int, task: Task = "inference") -> Workload:
    """A batch of random images.

    Args:
        network: one of `sectum.hetee.bench.published.networks`.
        batch: number of images.
        mode: which steps are real.
        seed: seed of the images.
        task: what is done with it.
    """
    times = None if mode.real_compute else pace(network, batch, task)
    if times is not None and mode.real_decode:
        times = Pace(preprocess_us=0, compute_us=times.compute_us, source=times.source)
    draw = np.random.default_rng(seed)
    if mode.real_decode:
        files = [_photograph(draw) for _ in range(min(batch, _PHOTOGRAPHS))]
        files = [files[index % len(files)] for index in range(batch)]
        return Workload(files, IMAGENET, times, sum(map(len, files)), _labels(draw, batch, task))
    images = draw.integers(0, 256, (batch, 3, SIDE, SIDE), np.uint8)
    return Workload(images, IMAGENET, times, images.nbytes, _labels(draw, batch, task))


def job(network: str, mode: Mode) -> tuple[TrainingJob, bytes | None]:
    """The training job of a network, and the ONNX model that it names: a small one if nothing is computed."""
    described = TrainingJob(optimiser=Optimiser(kind="sgd", rate=1e-3, momentum=0.9), network=_ZOO[network])
    if mode.real_compute:
        return described, None
    return TrainingJob(optimiser=described.optimiser, onnx=(bytes(32),)), _stand_in()


def _labels(draw: np.random.Generator, batch: int, task: Task) -> NDArray[np.int64] | None:
    return draw.integers(0, CLASSES, batch) if task == "training" else None


def _photograph(draw: np.random.Generator) -> bytes:
    """A JPEG of ImageNet's average size, with structure on every scale, like a photograph."""
    from PIL import Image

    width, height = _PHOTOGRAPH
    picture = np.zeros((height, width, 3))
    for divisor in (100, 50, 25, 12, 6, 3):
        coarse = draw.normal(0, 60 * divisor**0.5 / 10, (height // divisor + 1, width // divisor + 1, 3))
        for channel in range(3):
            layer = Image.fromarray(coarse[..., channel].astype(np.float32), "F")
            picture[..., channel] += np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC))
    picture += draw.normal(128, 9, picture.shape)
    file = io.BytesIO()
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
