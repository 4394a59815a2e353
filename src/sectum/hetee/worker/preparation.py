"""Converts a batch's bytes to the model's input arrays, item by item while the rest of the batch arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.hetee.data_plane.messages import Pixels, Slot, Tensor
from sectum.hetee.data_plane.tensors import ALIGNMENT_BYTES, Place, dtype_name
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.wire.kinds import STREAM_BYTES
from sectum.hetee.worker.pixels import Conversion, decode_jpeg, image_size

Task = Callable[[], None]
Take = Callable[[int], memoryview]
_FLOATING = ("float16", "float32", "float64")
_AS_SENT = Pixels()
_TASKS = 256  # largest number of tasks for one raw tensor


class Preparation:
    """The model inputs of one batch.

    Args:
        places: where the batch's tensors are in ``data``.
        inputs: the inputs that the model takes.
        data: the batch's plaintext; bytes that have not arrived yet are not read.
        take: allocates memory for converted arrays; the caller takes it back when nobody reads `arrays` any more.
        paced: whether to convert nothing, because the worker waits for a published time; arrays then have no content.

    Attributes:
        arrays: the inputs by name; complete when all tasks of `due` are done.
        taken: the memory from ``take``; None if nothing is converted.

    Raises:
        WorkRefused: ``INPUT_REFUSED``, the tensors do not fit the model.
        MemoryError: there is not enough memory.
    """

    def __init__(
        self, places: tuple[Place, ...], inputs: tuple[Slot, ...], data: memoryview, take: Take, *, paced: bool = False
    ) -> None:
        self.arrays: dict[str, NDArray[Any]] = {}
        self.taken: memoryview | None = None
        self._waiting: list[tuple[int, Task]] = []
        slots = {slot.name: slot for slot in inputs}
        names = [place.tensor.name for place in places]
        if len(set(names)) != len(names) or set(names) != set(slots):
            raise refusal(
                Refusal.INPUT_REFUSED,
                f"the batch gives the inputs {_list(names)}, the model takes {_list(list(slots))}",
            )
        # Everything is checked before memory is allocated.
        sources = [_InputConverter(place, slots[place.tensor.name], data) for place in places]
        if paced:
            self.arrays = {source.name: _repeated(source.shape, source.dtype) for source in sources}
            return
        at, n_bytes = 0, sum(source.memory_bytes for source in sources)
        if n_bytes > STREAM_BYTES:
            raise refusal(Refusal.INPUT_REFUSED, f"the inputs would take {n_bytes} bytes after conversion")
        self.taken = take(n_bytes) if n_bytes else None
        for source in sources:
            array = source.array((self.taken or memoryview(b""))[at:])
            at += source.memory_bytes
            self.arrays[source.name] = array
            self._waiting += source.tasks(array)
        self._waiting.sort(key=lambda pair: pair[0], reverse=True)

    @property
    def items(self) -> int:
        """The number of images or rows in the batch."""
        shape = next((array.shape for array in self.arrays.values()), ())
        return shape[0] if shape else 1

    def due(self, opened_bytes: int) -> list[Task]:
        """The tasks that can be done now that ``opened_bytes`` have arrived. Each is returned once."""
        tasks = []
        while self._waiting and self._waiting[-1][0] <= opened_bytes:
            tasks.append(self._waiting.pop()[1])
        return tasks


_conversion = lru_cache(maxsize=64)(Conversion)  # immutable, and the batches of one client use the same ones


class _InputConverter:
    """Converts one tensor of a batch to one model input."""

    def __init__(self, place: Place, slot: Slot, data: memoryview) -> None:
        self._place, self._slot, self._data = place, slot, data
        tensor = place.tensor
        self._pixels = tensor.pixels[0] if tensor.pixels else _AS_SENT
        self._jpeg = tensor.encoding == "jpeg"
        self._converted = tensor.dtype == "uint8" and slot.dtype in _FLOATING
        if tensor.pixels and not (self._converted or self._jpeg):
            raise refusal(
                Refusal.INPUT_REFUSED, f"'{slot.name}' has pixels, but is not uint8 for a floating-point input"
            )
        if tensor.dtype != slot.dtype and not self._converted:
            raise refusal(
                Refusal.INPUT_REFUSED,
                f"the input '{slot.name}' is given as {tensor.dtype}, the model takes {slot.dtype}",
            )
        self._conversion = _conversion(self._pixels, slot, "nhwc" if self._jpeg else self._pixels.layout)
        # Name, shape and dtype of the array that the model gets.
        self.name = slot.name
        self.shape = self._image_shape() if self._jpeg else self._raw_shape()
        self.dtype = np.dtype(object if slot.dtype == "string" else slot.dtype)
        _check_shape(slot, self.shape)
        in_place = (tensor.encoding == "raw" and not self._converted) or self.dtype == object
        n_bytes = 0 if in_place else prod(self.shape) * self.dtype.itemsize
        if n_bytes > STREAM_BYTES:
            raise refusal(Refusal.INPUT_REFUSED, f"'{slot.name}' would take {n_bytes} bytes after conversion")
        # Memory that the array needs besides the batch's own.
        self.memory_bytes = -(-n_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES

    def array(self, memory: memoryview) -> NDArray[Any]:
        """The array that the model gets: in ``memory``, or in the batch's own memory if nothing is converted."""
        if self.dtype == object:
            return np.empty(self.shape, object)
        if not (self._converted or self._jpeg):
            return self.raw()
        return np.frombuffer(memory, self.dtype, prod(self.shape)).reshape(self.shape)

    def raw(self) -> NDArray[Any]:
        """The tensor as it was sent, in the batch's own memory."""
        tensor = self._place.tensor
        data = self._data[self._place.begin : self._place.end]
        return np.frombuffer(data, tensor.dtype).reshape(tensor.shape)

    def _image_shape(self) -> tuple[int, ...]:
        channels, *size = image_size(self._pixels, self._slot)
        n = self._place.tensor.shape[0]
        return (n, channels, *size) if self._conversion.to == "nchw" else (n, *size, channels)

    def _raw_shape(self) -> tuple[int, ...]:
        shape = self._place.tensor.shape
        if not self._place.tensor.pixels:
            return shape
        if len(shape) != 4:
            raise refusal(
                Refusal.INPUT_REFUSED, f"'{self._slot.name}' has pixels and {len(shape)} dimensions, expected 4"
            )
        if self._pixels.size or self._pixels.shorter:
            raise refusal(Refusal.INPUT_REFUSED, "only JPEG images can be scaled: leave out size and shorter")
        n, a, b, c = shape
        if self._pixels.layout == self._conversion.to:
            return shape
        return (n, c, a, b) if self._pixels.layout == "nhwc" else (n, b, c, a)

    def tasks(self, array: NDArray[Any]) -> Iterator[tuple[int, Task]]:
        """The tasks that fill ``array``, each with the number of bytes that must have arrived."""
        begin, end, ends = self._place.begin, self._place.end, self._place.ends
        if self._place.tensor.encoding == "utf8":
            yield end, lambda: self._read_strings(array)
        elif self._jpeg:
            for index, (start, stop) in enumerate(zip((begin, *ends), ends, strict=False)):
                yield stop, lambda i=index, a=start, b=stop: self._decode(array, i, a, b)  # type: ignore[misc]
        elif self._converted:
            raw = self.raw()
            n = raw.shape[0] if raw.ndim else 0
            if not n or not self._place.tensor.pixels:
                yield end, lambda: np.copyto(array, raw)
                return
            per_item, step = (end - begin) // n, -(-n // _TASKS)
            for index in range(0, n, step):
                part = slice(index, min(index + step, n))
                yield begin + part.stop * per_item, lambda p=part: self._conversion.normalise(raw[p], array[p])  # type: ignore[misc]

    def _read_strings(self, array: NDArray[Any]) -> None:
        starts = (self._place.begin, *self._place.ends)
        try:
            texts = [bytes(self._data[a:b]).decode() for a, b in zip(starts, self._place.ends, strict=False)]
        except UnicodeDecodeError:
            raise refusal(Refusal.INPUT_REFUSED, f"'{self._slot.name}' holds text that is not UTF-8") from None
        array[...] = np.array(texts, object).reshape(array.shape)

    def _decode(self, array: NDArray[Any], index: int, start: int, stop: int) -> None:
        target = array[index : index + 1]
        nchw = self._conversion.to == "nchw"
        channels, height, width = target.shape[1:] if nchw else (target.shape[3], *target.shape[1:3])
        image = decode_jpeg(self._data[start:stop], channels, height, width, self._pixels.shorter)[np.newaxis]
        if self._converted:
            self._conversion.normalise(image, target)
        else:
            target[...] = image.transpose(0, 3, 1, 2) if nchw else image


def _repeated(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array of this shape that repeats a single zero in memory."""
    if dtype.hasobject:
        return np.broadcast_to(np.zeros((), dtype), shape)
    return np.ndarray(shape, dtype, bytes(dtype.itemsize), 0, (0,) * len(shape))


def _check_shape(slot: Slot, shape: tuple[int, ...]) -> None:
    if slot.shape == ("...",):
        return
    fits = len(slot.shape) == len(shape) and all(
        size == wanted for size, wanted in zip(shape, slot.shape, strict=True) if isinstance(wanted, int)
    )
    if not fits:
        raise refusal(
            Refusal.INPUT_REFUSED,
            f"the input '{slot.name}' has shape {list(shape)}, the model takes {list(slot.shape)}",
        )


def _list(names: list[str]) -> str:
    return ", ".join(f"'{name[:40]}'" for name in names[:6]) + (", ..." if len(names) > 6 else "")


def as_tensor(name: str, array: NDArray[Any]) -> tuple[Tensor, memoryview]:
    """Describe an output for sending, and give its bytes, without a copy if the array is contiguous.

    Raises:
        WorkRefused: ``COMPUTE_FAILED``, it is not a tensor of a type that can be sent.
    """
    if not isinstance(array, np.ndarray):
        raise refusal(Refusal.COMPUTE_FAILED, f"the output '{name[:80]}' is not a tensor")
    if array.dtype == object:
        texts = [str(item).encode() for item in array.reshape(-1)]
        tensor = Tensor(name=name, dtype="string", shape=array.shape, encoding="utf8", sizes=tuple(map(len, texts)))
        return tensor, memoryview(b"".join(texts))
    tensor = Tensor(name=name, dtype=dtype_name(array.dtype), shape=array.shape)  # type: ignore[arg-type]
    if not array.size:
        return tensor, memoryview(b"")
    if array.dtype == np.float32 and array.flags.c_contiguous:  # the common case, and fast
        return tensor, array.data.cast("B")
    return tensor, memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))  # type: ignore[arg-type]
