"""What is computed: the paper's networks, batches of images, and what of it is paced."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sectum.hetee.client.inputs import IMAGENET, Inputs
from sectum.hetee.client.session import AcceleratorKind
from sectum.hetee.wire.messages import Pace, Pixels
from sectum.hetee.worker.accelerators.published import pace

How = Literal["paced", "real"]

SIDE = 224  # table II of the paper
CLASSES = 1000
_ZOO = {
    "VGG16": "vgg16",
    "GoogLeNet": "googlenet",
    "ResNet50": "resnet50",
    "ResNet101": "resnet101",
    "ResNet152": "resnet152",
}
# The mean of ImageNet's training images is about 500x375 and 110 KB.
_PHOTOGRAPH = 500, 375
_QUALITY = 92
_PHOTOGRAPHS = 8


@dataclass(frozen=True)
class Mode:
    """What is done for real. What is not is paced, at the times that the paper published.

    Attributes:
        real_decode: images travel as JPEG files, and are decoded; else as bytes of pixels.
        real_compute: the network is computed; then preprocessing is real, too.
        kind: of accelerator that computes; ``paced`` where nothing is computed.
    """

    real_decode: bool = False
    real_compute: bool = False
    kind: AcceleratorKind = "paced"

    @property
    def preprocess(self) -> How:
        """Whether preprocessing is waited for or done."""
        return "real" if self.real_decode or self.real_compute else "paced"

    @property
    def compute(self) -> How:
        """Whether computing is waited for or done."""
        return "real" if self.real_compute else "paced"


@dataclass(frozen=True)
class Workload:
    """One batch, which is sent again and again.

    Attributes:
        inputs: as a client hands them in.
        pixels: how they become numbers.
        pace: the times to wait for; None where nothing is paced.
        n_bytes: of plaintext that travel to the worker.
    """

    inputs: Inputs
    pixels: Pixels | None
    pace: Pace | None
    n_bytes: int


def model(network: str, mode: Mode) -> bytes:
    """The ONNX file of a network.

    Where nothing is computed, a model with the network's input and output stands for it: all that a paced accelerator
    asks of one is the shape of its outputs.
    """
    if mode.real_compute:
        from sectum import zoo

        return zoo.to_bytes(zoo.build(_ZOO[network]))
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


def workload(network: str, batch: int, mode: Mode, seed: int) -> Workload:
    """A batch of images that were drawn at random.

    Args:
        network: one of `sectum.hetee.bench.published.networks`.
        batch: images.
        mode: what is real.
        seed: of the images.
    """
    times = None if mode.real_compute else pace(network, batch)
    if times is not None and mode.real_decode:
        times = Pace(preprocess_us=0, compute_us=times.compute_us, source=times.source)
    draw = np.random.default_rng(seed)
    if mode.real_decode:
        files = [_photograph(draw) for _ in range(min(batch, _PHOTOGRAPHS))]
        files = [files[index % len(files)] for index in range(batch)]
        return Workload(files, IMAGENET, times, sum(map(len, files)))
    images = draw.integers(0, 256, (batch, 3, SIDE, SIDE), np.uint8)
    return Workload(images, IMAGENET, times, images.nbytes)


def _photograph(draw: np.random.Generator) -> bytes:
    """A JPEG as large as ImageNet's are on average, with structure on every scale, as photographs have it."""
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
