"""The pictures that ``sectum hetee train`` trains on: those that scikit-learn ships, or a file."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.errors import UsageError
from sectum.extras import require

_HELD_OUT = 5  # one of so many items is not trained on
_PATCH = 32
_LARGEST = 8 << 30


@dataclass(frozen=True)
class Data:
    """Pictures [n, channels, height, width] in float32, and the number of the class of each.

    Attributes:
        images: pictures to train on.
        labels: their classes.
        held_out: pictures to score.
        held_out_labels: their classes.
        classes: number of classes.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    held_out: NDArray[np.float32]
    held_out_labels: NDArray[np.int64]
    classes: int


def load(name: str, seed: int, channels: int = 0, resolution: int = 0) -> Data:
    """Load pictures, and hold a fifth of them out.

    Args:
        name: ``digits``, ``photos``, or the path of an ``.npz`` file with the arrays ``images`` and ``labels``.
        seed: of the choice of what is held out.
        channels: repeat a single channel so often; 0 to leave it.
        resolution: enlarge or shrink to this height and width; 0 to leave it.

    Raises:
        UsageError: scikit-learn is not installed, or the file is no such file.
    """
    images, labels = _digits() if name == "digits" else _photos() if name == "photos" else _file(Path(name))
    images = _sized(images, resolution)
    if channels and images.shape[1] != channels:
        if images.shape[1] != 1:
            raise UsageError(f"the pictures have {images.shape[1]} channels, the network takes {channels}")
        images = np.repeat(images, channels, axis=1)
    order = np.random.default_rng(seed).permutation(len(labels))
    scored, trained = order[: len(order) // _HELD_OUT], order[len(order) // _HELD_OUT :]
    if not len(scored):
        raise UsageError(f"{len(labels)} pictures are too few: {_HELD_OUT} or more are needed")
    return Data(
        np.ascontiguousarray(images[trained]),
        labels[trained],
        np.ascontiguousarray(images[scored]),
        labels[scored],
        int(labels.max()) + 1,
    )


def _digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """1,797 handwritten digits of 8x8 pixels, from 0 to 1."""
    data = require("sklearn.datasets", "the digits are scikit-learn's", "search").load_digits()
    return (data.images[:, None] / 16).astype(np.float32), data.target.astype(np.int64)


def _photos() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Squares of 32x32 pixels of the two photographs that scikit-learn ships; the class is the photograph."""
    found = require("sklearn.datasets", "the photographs are scikit-learn's", "search").load_sample_images()
    squares, labels = [], []
    for number, photo in enumerate(found.images):
        for top in range(0, photo.shape[0] - _PATCH + 1, _PATCH):
            for left in range(0, photo.shape[1] - _PATCH + 1, _PATCH):
                squares.append(photo[top : top + _PATCH, left : left + _PATCH].transpose(2, 0, 1))
                labels.append(number)
    return (np.stack(squares) / 255).astype(np.float32), np.array(labels, np.int64)


def _file(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    wanted = "write one with numpy.savez(FILE, images=..., labels=...): [n, channels, height, width] and [n]"
    try:
        if path.stat().st_size > _LARGEST:
            raise UsageError(f"'{path}' is larger than {_LARGEST >> 30} GiB")
        with np.load(path, allow_pickle=False) as archive:
            images, labels = archive["images"], archive["labels"]
    except FileNotFoundError:
        raise UsageError(f"there is no file '{path}': name one, or 'digits' or 'photos'") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"'{path}' is no file of pictures with labels ({error}): {wanted}") from None
    if images.ndim != 4 or labels.shape != images.shape[:1] or labels.dtype.kind not in "iu" or not labels.size:
        raise UsageError(f"'{path}' has images {images.shape} and labels {labels.shape} of {labels.dtype}: {wanted}")
    if labels.min() < 0:
        raise UsageError(f"'{path}' has the label {labels.min()}: classes are numbered from 0")
    return images.astype(np.float32), labels.astype(np.int64)


def _sized(images: NDArray[np.float32], resolution: int) -> NDArray[Any]:
    """Enlarge or shrink by repeating or leaving out pixels."""
    if not resolution or images.shape[2:] == (resolution, resolution):
        return images
    rows, columns = (np.arange(resolution) * size // resolution for size in images.shape[2:])
    return images[:, :, rows][:, :, :, columns]
