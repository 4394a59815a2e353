"""Turns images into a model's input: JPEG decoding with limits, scaling, layout, normalisation."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from sectum.hetee.errors import Refusal, refusal

if TYPE_CHECKING:
    from sectum.hetee.data_plane.messages import Pixels, Slot

IMAGE_PIXELS = 1 << 26  # limit for one JPEG: 64 million pixels, 192 MiB decoded
Layout = Literal["nchw", "nhwc"]


def layout_of(slot: Slot) -> Layout:
    """The layout of a model's image input: NCHW, unless only the last dimension can be the channels."""
    return "nhwc" if len(slot.shape) == 4 and slot.shape[1] not in (1, 3) and slot.shape[3] in (1, 3) else "nchw"


class Conversion:
    """Converts the images of one tensor to the items of one model input.

    Args:
        pixels: the conversion that the batch asks for.
        slot: the model's input.
        layout: layout of the arrays that `normalise` gets.

    Attributes:
        to: layout of the arrays that `normalise` fills.
    """

    def __init__(self, pixels: Pixels, slot: Slot, layout: Layout) -> None:
        self._order = slice(None, None, -1 if pixels.bgr else 1)
        self._from, self.to = layout, layout_of(slot)
        self._mean, self._std = _per_channel(pixels.mean, 0.0), _per_channel(pixels.std, 1.0)

    def normalise(self, images: NDArray[np.uint8], out: NDArray[Any]) -> None:
        """Write ``(images - mean) / std``, computed in float32, to ``out``; both [n, ., ., .] in their layouts.

        Raises:
            WorkRefused: ``INPUT_REFUSED``, the number of means or deviations differs from the number of channels.
        """
        # Both as NCHW views, so that the arithmetic is the only pass over memory.
        source = images.transpose(0, 3, 1, 2) if self._from == "nhwc" else images
        target = out.transpose(0, 3, 1, 2) if self.to == "nhwc" else out
        source = source[:, self._order]
        if max(self._mean.size, self._std.size) not in (1, source.shape[1]):
            raise refusal(
                Refusal.INPUT_REFUSED,
                f"{self._mean.size} means, {self._std.size} deviations for images of {source.shape[1]} channels",
            )
        if target.dtype == np.float32:
            np.subtract(source, self._mean, out=target, dtype=np.float32)
            np.divide(target, self._std, out=target)
        else:
            target[...] = (np.subtract(source, self._mean, dtype=np.float32)) / self._std


def _per_channel(values: tuple[float, ...], default: float) -> NDArray[np.float32]:
    if not all(map(math.isfinite, values)):
        raise refusal(Refusal.INPUT_REFUSED, "a mean or deviation of pixels is not a finite number")
    return np.array(values or (default,), np.float32).reshape(-1, 1, 1)


def image_size(pixels: Pixels, slot: Slot) -> tuple[int, int, int]:
    """Channels, height and width of the items that JPEG files are converted to.

    Raises:
        WorkRefused: ``INPUT_REFUSED``, neither the batch nor the model gives the size, or it is impossible.
    """
    nhwc = layout_of(slot) == "nhwc"
    if len(slot.shape) != 4:
        raise refusal(
            Refusal.INPUT_REFUSED, f"images for the input '{slot.name}' of rank {len(slot.shape)}, expected rank 4"
        )
    channels, height, width = (slot.shape[axis] for axis in ((3, 1, 2) if nhwc else (1, 2, 3)))
    if len(pixels.size) == 2:
        height, width = pixels.size
    elif pixels.size:
        raise refusal(Refusal.INPUT_REFUSED, "a size of images is two numbers, height and width")
    if not (isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0):
        raise refusal(
            Refusal.INPUT_REFUSED, f"the input '{slot.name}' has no fixed height and width: give a size in the batch"
        )
    if channels not in (1, 3) and isinstance(channels, int):
        raise refusal(Refusal.INPUT_REFUSED, f"images for an input of {channels} channels: JPEG has 1 or 3")
    if pixels.shorter and pixels.shorter < max(height, width):
        raise refusal(
            Refusal.INPUT_REFUSED,
            f"{height}x{width} cannot be cut out of images whose shorter side is {pixels.shorter}",
        )
    return channels if isinstance(channels, int) else 3, height, width


def decode_jpeg(data: memoryview, channels: int, height: int, width: int, shorter: int = 0) -> NDArray[np.uint8]:
    """Decode a JPEG and scale it; the orientation tag is ignored.

    Args:
        data: the file.
        channels: 3 for RGB, 1 for grey.
        height: height of the result.
        width: width of the result.
        shorter: 0 scales to the result's size; otherwise the shorter side is scaled to this, and the centre is cropped.

    Returns:
        [height, width, channels], uint8.

    Raises:
        WorkRefused: ``INPUT_REFUSED``, the file is not a JPEG, is damaged, or is too large.
    """
    try:
        # Not `Image.open`, whose limit is one for the whole process.
        with JpegImageFile(io.BytesIO(data)) as file:
            if file.width * file.height > IMAGE_PIXELS:
                raise refusal(
                    Refusal.INPUT_REFUSED, f"an image of {file.width}x{file.height}; the limit is {IMAGE_PIXELS} pixels"
                )
            image: Image.Image = file.convert("RGB" if channels == 3 else "L")
    except (OSError, ValueError, SyntaxError):
        raise refusal(Refusal.INPUT_REFUSED, f"an image of {len(data)} bytes is not a complete JPEG") from None
    if shorter:
        factor = shorter / min(image.size)
        wide, high = (max(shorter, int(side * factor)) for side in image.size)
        image = _scaled(image, wide, high)
        left, top = round((wide - width) / 2), round((high - height) / 2)
        image = image.crop((left, top, left + width, top + height))
    else:
        image = _scaled(image, width, height)
    return np.asarray(image).reshape(height, width, channels)


def _scaled(image: Image.Image, width: int, height: int) -> Image.Image:
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)
