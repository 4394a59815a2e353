"""Turns what the caller passes in, such as JPEG files, arrays or strings, into the tensors of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sectum.hetee.data_plane.messages import Pixels, Slot, Tensor
from sectum.hetee.data_plane.tensors import ITEM_BYTES, dtype_name
from sectum.hetee.errors import Refusal, refusal

# Mean and standard deviation of ImageNet's training images, in units of 0-255, as torchvision publishes them
# (0.485, 0.456, 0.406; 0.229, 0.224, 0.225).
IMAGENET = Pixels(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
_JPEG = b"\xff\xd8\xff"
_FLOATING = ("float16", "float32", "float64")

Image = str | PathLike[str] | bytes
Inputs = Mapping[str, Any] | Sequence[Image] | Image | NDArray[Any]


class InputTensor(NamedTuple):
    """A tensor's description, and its bytes in one or more parts."""

    tensor: Tensor
    parts: tuple[memoryview, ...]


def input_tensors(inputs: Inputs, slots: Sequence[Slot], pixels: Pixels | None) -> list[InputTensor]:
    """Describe the inputs of a batch as tensors.

    Args:
        inputs: JPEG images (paths or bytes), an array, or a mapping from the model's inputs to either.
        slots: the model's inputs.
        pixels: how pixels are converted to numbers. None converts JPEG images for a floating-point input with
            ImageNet's mean and deviation, and leaves arrays as they are.

    Raises:
        WorkRefused: ``INPUT_REFUSED``, the inputs do not fit the model.
    """
    if not isinstance(inputs, Mapping):
        if len(slots) != 1:
            names = ", ".join(slot.name for slot in slots)
            raise refusal(Refusal.INPUT_REFUSED, f"the model has {len(slots)} inputs: give a mapping with {names}")
        inputs = {slots[0].name: inputs}
    known = {slot.name: slot for slot in slots}
    if set(inputs) != set(known):
        raise refusal(Refusal.INPUT_REFUSED, f"got the inputs {sorted(inputs)}, the model has {sorted(known)}")
    return [_input_tensor(known[name], value, pixels) for name, value in inputs.items()]


def _input_tensor(slot: Slot, value: Any, pixels: Pixels | None) -> InputTensor:
    if isinstance(value, np.ndarray):
        return _array(slot, value, pixels)
    files = [value] if isinstance(value, str | bytes | PathLike) else list(value)
    return _images(slot, [_read(file) for file in files], pixels)


def _read(image: Image) -> bytes:
    if isinstance(image, bytes):
        data, name = image, "an image"
    else:
        name = str(image)
        try:
            data = Path(image).read_bytes()
        except OSError as error:
            raise refusal(Refusal.INPUT_REFUSED, f"{name} cannot be read: {error.strerror}") from None
    if not data.startswith(_JPEG):
        raise refusal(Refusal.INPUT_REFUSED, f"{name} is not a JPEG; send other formats as arrays")
    return data


def _images(slot: Slot, files: list[bytes], pixels: Pixels | None) -> InputTensor:
    if pixels is None and slot.dtype in _FLOATING:
        pixels = IMAGENET if len(slot.shape) == 4 and 1 not in (slot.shape[1], slot.shape[3]) else Pixels()
    tensor = Tensor(
        name=slot.name,
        dtype="uint8",
        shape=(len(files),),
        encoding="jpeg",
        sizes=tuple(map(len, files)),
        pixels=() if pixels is None else (pixels,),
    )
    return InputTensor(tensor, tuple(map(memoryview, files)))


def _array(slot: Slot, array: NDArray[Any], pixels: Pixels | None) -> InputTensor:
    if array.dtype.kind in "OUS":
        texts = [item if isinstance(item, bytes) else str(item).encode() for item in array.reshape(-1)]
        tensor = Tensor(
            name=slot.name, dtype="string", shape=array.shape, encoding="utf8", sizes=tuple(map(len, texts))
        )
        return InputTensor(tensor, tuple(map(memoryview, texts)))
    name = dtype_name(array.dtype)
    if name not in ITEM_BYTES:
        raise refusal(Refusal.INPUT_REFUSED, f"'{slot.name}' is an array of {name}, which cannot be sent")
    if not (array.flags.c_contiguous and array.dtype.isnative):  # all supported machines are little-endian
        array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).reshape(array.shape)
    converted = pixels is not None and name == "uint8" and slot.dtype in _FLOATING
    tensor = Tensor(
        name=slot.name,
        dtype=name,  # type: ignore[arg-type]  # one of ITEM_BYTES
        shape=array.shape,
        pixels=(pixels,) if converted and pixels is not None else (),
    )
    return InputTensor(tensor, (_flat(array),))


def _flat(array: NDArray[Any]) -> memoryview:
    """The bytes of a contiguous array."""
    if not array.size:
        return memoryview(b"")
    return array.data.cast("B") if array.dtype == np.uint8 else memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
