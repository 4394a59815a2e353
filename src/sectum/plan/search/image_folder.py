"""Training on a folder of images: one folder in it for each class, as torchvision's ``ImageFolder`` has them.

Of each class 60 % of the images are to train with, 20 % say when to stop, and 20 % are for the score. The split, the
order and the initial weights are seeded, so that an architecture always gets the same score on one machine.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.errors import UsageError
from sectum.extras import need_extra
from sectum.plan.search.network import as_module, pictures_for
from sectum.units import GIB, MIB, format_bytes

PREFIX = "images:"
"""What the objective's name begins with; the folder follows."""
_ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp")
_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "WEBP")
_MOST_IMAGES, _MOST_CLASSES = 200_000, 10_000
_MOST_FILE_BYTES, _MOST_PIXELS = 64 * MIB, 1 << 26
_MOST_BYTES = 4 * GIB
"""Of all images at a network's size, one byte for each value."""
_FEWEST = 5
"""Images of a class: one at least has to be in each part."""
_TRAIN, _STOP = 0.6, 0.8
_NAMED = 3
_MODES = {1: "L", 3: "RGB"}


class ImageFolder:
    """The objective: share of the held-out images that a trained network tells apart. Higher is better.

    Every image is read once beforehand. Those that cannot be read are left out, and `notes` names them.

    Args:
        folder: with one folder for each class. Files are images by their ending; others are not looked at.

    Raises:
        UsageError: Pillow is not installed, it is no folder, or it has no two classes with enough images.
    """

    def __init__(self, folder: Path) -> None:
        need_extra("search", f"the objective {PREFIX}{folder}", "PIL")
        self.folder = folder
        found = _files(folder)
        if len(found) < 2:
            raise UsageError(
                f"{folder} has {_classes(list(found))}, and telling images apart needs two: give a folder with one "
                "folder of images for each class"
            )
        self.classes = tuple(found)
        self.files: list[tuple[Path, int]] = []
        self.unreadable: list[str] = []
        for number, name in enumerate(self.classes):
            readable = [path for path in found[name] if self._reads(path)]
            if len(readable) < _FEWEST:
                raise UsageError(
                    f"the class '{name}' of {folder} has {len(readable)} images that can be read, and needs at least "
                    f"{_FEWEST}{self._why()}: add images, or take the folder out"
                )
            self.files += [(path, number) for path in readable]
        self._pictures: dict[tuple[int, int, int], NDArray[np.uint8]] = {}

    def _reads(self, path: Path) -> bool:
        try:
            _decoded(path, "RGB", None)
        except Exception as error:  # noqa: BLE001  # a damaged file may make a decoder raise anything
            self.unreadable.append(f"{path.relative_to(self.folder)} ({str(error) or type(error).__name__})"[:200])
            return False
        return True

    def _why(self) -> str:
        return f"; {_listed(self.unreadable)} cannot be read" if self.unreadable else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know: which images were left out."""
        if not self.unreadable:
            return ()
        count = len(self.unreadable)
        left_out = "1 image" if count == 1 else f"{count:,} images"
        return (f"{left_out} of {self.folder} could not be read and took no part: {_listed(self.unreadable)}",)

    def parts(self) -> tuple[list[int], list[int], list[int]]:
        """Positions of the images to train with, of those that say when to stop, and of those for the score."""
        rng = np.random.default_rng(0)
        parts: tuple[list[int], list[int], list[int]] = ([], [], [])
        labels = np.array([label for _, label in self.files])
        for label in range(len(self.classes)):
            own = rng.permutation(np.flatnonzero(labels == label)).tolist()
            ends = (0, round(_TRAIN * len(own)), round(_STOP * len(own)), len(own))
            for part, begin, end in zip(parts, ends, ends[1:], strict=False):
                part.extend(own[begin:end])
        return parts

    def pictures(self, channels: int, height: int, width: int) -> NDArray[np.uint8]:
        """All images, scaled and cut to a size, shape ``(n, channels, height, width)``. The last size is kept.

        Raises:
            UsageError: networks take images of 1 or 3 channels only, or the images need too much memory.
        """
        size = (channels, height, width)
        if channels not in _MODES:
            raise UsageError(f"the network takes pictures of {channels} channels, and images have 1 or 3")
        n_bytes = len(self.files) * math.prod(size)
        if n_bytes > _MOST_BYTES:
            raise UsageError(
                f"{len(self.files):,} images of {height}x{width} take {format_bytes(n_bytes)}, more than "
                f"{format_bytes(_MOST_BYTES)}: give fewer images, or a space of a smaller resolution"
            )
        if size not in self._pictures:
            self._pictures.clear()
            made = np.empty((len(self.files), *size), np.uint8)
            for place, (path, _) in enumerate(self.files):
                image = _decoded(path, _MODES[channels], (width, height))
                made[place] = image.reshape(height, width, channels).transpose(2, 0, 1)
            self._pictures[size] = made
        return self._pictures[size]

    def __call__(self, network: object) -> float:
        """Train a network, and score it.

        Args:
            network: a `sectum.zoo.Architecture`, a module, or a pair of a module and its example inputs. It takes
                pictures and gives a score for each class. A module is trained from the weights that it has, and left
                as it was.

        Raises:
            UsageError: PyTorch is not installed, or the network does not take pictures or gives too few scores.
        """
        import torch

        from sectum.plan.search.training import Labelled, Task

        size = pictures_for(network)
        module = copy.deepcopy(as_module(network))
        labels = torch.tensor([label for _, label in self.files])
        everything = Labelled(torch.from_numpy(self.pictures(*size)), labels)
        train, stop, held_out = (everything.part(torch.tensor(part)) for part in self.parts())
        name = f"{PREFIX}{self.folder}"
        task = Task(name, train, stop, held_out, len(self.classes), lambda pictures: pictures.float() / 127.5 - 1)
        return task.score(module, torch.Generator().manual_seed(0))

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs; it reads the images itself."""
        return {**vars(self), "_pictures": {}}


def _files(folder: Path) -> dict[str, list[Path]]:
    """Images by class, in the order of their names."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder: give one with one folder of images for each class")
    found: dict[str, list[Path]] = {}
    count = 0
    try:
        for inner in sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")):
            paths = sorted(path for path in inner.iterdir() if path.suffix.lower() in _ENDINGS and path.is_file())
            count += len(paths)
            if paths:
                found[inner.name] = paths
            if count > _MOST_IMAGES or len(found) > _MOST_CLASSES:
                raise UsageError(
                    f"{folder} has more than {_MOST_IMAGES:,} images or {_MOST_CLASSES:,} classes: give a part of it"
                )
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror or error}") from error
    if not found:
        raise UsageError(
            f"{folder} has no folders with images ({', '.join(_ENDINGS)}): give one with one folder of images for each "
            "class"
        )
    return found


def _decoded(path: Path, mode: str, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """An image as Pillow has it; with a size, scaled to cover width and height, and cut around its middle.

    Raises:
        Exception: anything, where the file is damaged, too large, or of another format.
    """
    from PIL import Image, ImageOps

    if path.stat().st_size > _MOST_FILE_BYTES:
        raise UsageError(f"the file is larger than {format_bytes(_MOST_FILE_BYTES)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about damaged metadata and many pixels
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise UsageError(f"it has more than {_MOST_PIXELS:,} pixels")
            if size is None:
                image.load()
                return np.empty(0, np.uint8)
            if mode == "RGB":
                image.draft(mode, size)  # of a JPEG, decode no more than is needed
            fitted = ImageOps.fit(image.convert(mode), size, Image.Resampling.BILINEAR)
            return np.asarray(fitted, np.uint8)


def _classes(names: Sequence[str]) -> str:
    return f"one class with images, '{names[0]}'" if names else "no class with images"


def _listed(items: Sequence[str]) -> str:
    more = f" and {len(items) - _NAMED:,} more" if len(items) > _NAMED else ""
    return ", ".join(items[:_NAMED]) + more
