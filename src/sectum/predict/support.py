"""What the latency models were trained on: which operators are like those that were measured, and which are not.

A tree ensemble answers for any operator, also for one unlike all it has seen, and cannot tell. So the sizes of every
operator of the training data are kept, coarsely, as cells: one for each operator type and each combination of sizes.
An operator is inside the support if some cell lies within reach in every dimension at once; combinations count. Sizes
are compared as ratios, in octaves. Training writes the file: numpy arrays of small integers, one for each type.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from sectum.errors import ArtefactInvalid
from sectum.ort.operators import OPERATORS, trained_types
from sectum.predict.artefact import read_checked
from sectum.predict.features import FEATURES, OperatorFeatures
from sectum.units import format_bytes

Floats = NDArray[np.float64]
Cells = NDArray[np.int64]

FILE = "support.npz"
INSIDE, NEAR, OUTSIDE = "inside", "near", "outside"
HERE, ELSEWHERE = "here", "elsewhere"
"""Where operators were measured: on the artefact's kind of processor, or on another kind."""

_SAME_KERNEL = (
    frozenset({"Gemm", "MatMul", "com.microsoft:FusedGemm", "com.microsoft:FusedMatMul"}),
    frozenset({"Conv", "com.microsoft:FusedConv"}),
)
"""Types that the runtime computes by the same kernel: sizes that were measured of one are near for the others. No
others: a latency model that never saw a type is wrong about it by up to a hundred times (docs/support.md)."""
NEAR_FACTOR = 1.5
"""When such a type was left out of training, nine of ten of its operators took 0.55 to 1.4 times what was predicted; 89
to 98 % lay within this factor."""
_FORMAT = 3
_MOST_PLACES = 100_000
"""Operators whose places are remembered."""
_ROUNDING = 1e-3
_DIMENSIONS = "dimensions"
"""The array that says what the columns of the others mean, as JSON."""
_RENAMES = frozenset(row.name for row in OPERATORS.values() if row.renames)
_ALONG_LAST = [
    row.code
    for row in trained_types().values()
    if row.kind == "pointwise" and ("Normalization" in row.name or "Softmax" in row.name or row.name == "ArgMax")
]
"""Pointwise types whose time depends on the last dimension; the others go through all elements alike."""
_COLUMN = {name: index for index, name in enumerate(FEATURES)}


class Place(NamedTuple):
    """Where an operator lies.

    Attributes:
        support: `INSIDE`, `NEAR` or `OUTSIDE`.
        why: what of it was never measured, in one clause; empty where it is inside.
    """

    support: str
    why: str


class Dimension(NamedTuple):
    """One size of an operator.

    Attributes:
        name: in messages.
        step: octaves between cells.
        reach: octaves from a cell within which an operator counts as measured.
        in_bytes: whether it is a number of bytes.
    """

    name: str
    step: float
    reach: float
    in_bytes: bool = False

    def text(self, octaves: float) -> str:
        """A coordinate as a size."""
        size = 2.0**octaves
        return format_bytes(round(size)) if self.in_bytes else f"{size:.0f}"


_KERNEL = (
    Dimension("kernel height", 0.25, 0.42),  # 13 for 11 is near enough, 15 is not
    Dimension("kernel width", 0.25, 0.42),
    Dimension("stride", 0.25, 0.5),
)
_CONVOLUTION = (
    *_KERNEL,
    Dimension("dilation", 0.25, 0.6),
    Dimension("input channels of a group", 1, 1),
    Dimension("filters of a group", 1, 1),
    Dimension("groups", 1, 1),
    Dimension("output height", 1, 1),
    Dimension("output width", 1, 1),
    Dimension("batch", 2, 2),
    Dimension("operations per tap", 2, 1),  # a kernel of three dimensions has more
)
_PRODUCT = (
    Dimension("rows", 1, 1),
    Dimension("columns", 1, 1),
    Dimension("depth", 1, 1),
    Dimension("rows of a matrix", 1, 2),
    Dimension("constant operand", 1, 0.5),
)
_RECURRENT = (
    Dimension("steps", 1, 2),
    Dimension("batch", 1, 1),
    Dimension("inputs", 1, 1),
    Dimension("units", 1, 1),
    Dimension("directions", 1, 0.5),
)
_QUANTIZED = (
    Dimension("kernel height", 0.25, 0.42),
    Dimension("kernel width", 0.25, 0.42),
    Dimension("groups", 1, 1),
    Dimension("outputs", 1, 2),
    Dimension("columns", 1, 1.5),
    Dimension("depth", 1, 1),
    Dimension("constant operand", 1, 0.5),
)
_POOL = (
    *_KERNEL,
    Dimension("bytes read", 1, 2, in_bytes=True),
    Dimension("bytes written", 1, 2, in_bytes=True),
    Dimension("operations per output", 1, 1.5),
    Dimension("output width", 1, 2),
)
_POINTWISE = (
    Dimension("bytes read", 1, 1.5, in_bytes=True),
    Dimension("bytes of weights", 4, 4, in_bytes=True),
    Dimension("bytes written", 1, 1.5, in_bytes=True),
    Dimension("last dimension", 1, 2),
    Dimension("inputs", 1, 1),
    Dimension("broadcast operand", 1, 0.5),
)
_MOVE = (
    Dimension("bytes read", 1, 1.5, in_bytes=True),
    Dimension("bytes written", 1, 1.5, in_bytes=True),
    Dimension("elements copied at a time", 1, 1.5),
    Dimension("input channels", 1, 2),
    Dimension("output width", 1, 2),
    Dimension("inputs", 1, 1),
)
DIMENSIONS: Mapping[str, tuple[Dimension, ...]] = {
    "conv": _CONVOLUTION,
    "depthwise": _CONVOLUTION,
    "plain_conv": _CONVOLUTION,
    "gemm": _PRODUCT,
    "pool": _POOL,
    "pointwise": _POINTWISE,
    "move": _MOVE,
    "recurrent": _RECURRENT,
    "quantized": _QUANTIZED,
}
"""By kind of operator."""


def coordinates(kind: str, values: NDArray[np.float32]) -> Floats:
    """Sizes of operators of one kind, in octaves.

    Args:
        kind: of all of them.
        values: their features, shape ``(operators, len(FEATURES))``.

    Returns:
        Shape ``(operators, len(DIMENSIONS[kind]))``.
    """

    def column(name: str) -> Floats:
        return values[:, _COLUMN[name]].astype(np.float64)

    def amount(name: str) -> Floats:
        found: Floats = np.expm1(column(f"log_{name}"))
        return found

    def octaves(*sizes: Floats) -> Floats:
        columns: Floats = np.column_stack([np.log2(np.maximum(size, 1)) for size in sizes])
        return columns

    read, weight, written = (amount(name) for name in ("input_bytes", "weight_bytes", "output_bytes"))
    outputs = np.maximum(amount("outputs"), 1)
    kernel = [column("kernel_height"), column("kernel_width")]
    if DIMENSIONS[kind] is _CONVOLUTION:
        groups = np.maximum(column("groups"), 1)
        channels, filters = column("in_channels") / groups, column("out_channels") / groups
        height, width, batch = column("out_height"), column("out_width"), column("batch")
        taps = batch * height * width * column("out_channels") * channels * kernel[0] * kernel[1]
        per_tap = np.log2(np.maximum(amount("flops"), 1) / np.maximum(2 * taps, 1))
        sizes = (*kernel, column("stride"), column("dilation"), channels, filters, groups, height, width, batch)
        return np.column_stack([octaves(*sizes), np.clip(per_tap, -8, 8)])
    if kind == "gemm":
        rows = np.maximum(np.expm1(column("rows")), 1)
        sizes = (rows, outputs / rows, amount("flops") / 2 / outputs, column("in_height"))
        return np.column_stack([octaves(*sizes), weight > 0])
    if kind == "recurrent":
        return octaves(*(column(name) for name in ("batch", "in_channels", "in_width", "out_width", "out_channels")))
    if kind == "quantized":
        is_convolution = column("out_height") * column("out_width") > 1
        rows = np.maximum(np.expm1(column("rows")), 1)
        columns = np.where(is_convolution, column("out_channels"), outputs / rows)
        sizes = (*kernel, column("groups"), outputs, columns, amount("flops") / 2 / outputs)
        return np.column_stack([octaves(*sizes), weight > 0])
    if kind == "pool":
        return octaves(*kernel, column("stride"), read, written, amount("flops") / outputs, column("out_width"))
    run = np.expm1(column("contiguous_run"))
    if kind == "pointwise":
        along = np.isin(column("type"), _ALONG_LAST) | (column("broadcast") > 0)
        run = np.where(along, run, 1)
        return np.column_stack([octaves(read, weight, written, run, column("inputs")), column("broadcast")])
    return octaves(read, written, run, column("in_channels"), column("out_width"), column("inputs"))


def key(operator_type: str, kind: str) -> str:
    """Names the cells of a type: depthwise convolutions have cells of their own."""
    return f"{operator_type} {kind}"


def cells_of(kind: str, values: NDArray[np.float32]) -> Cells:
    """The cells of operators, each once, sorted; shape ``(cells, len(DIMENSIONS[kind]))``."""
    steps = np.array([dimension.step for dimension in DIMENSIONS[kind]])
    return np.unique(np.round(coordinates(kind, values) / steps).astype(np.int64), axis=0)


@dataclass(frozen=True)
class Support:
    """The operators that latency models were trained on. The file is read at the first question.

    Attributes:
        folder: of the artefact.
        file: its name and SHA-256, as the manifest has them.
    """

    folder: Path
    file: tuple[str, str]

    def __getstate__(self) -> dict[str, object]:
        """What another process needs: it opens the file itself."""
        return {"folder": self.folder, "file": self.file}

    def places(self, features: OperatorFeatures) -> tuple[Place, ...]:
        """Where each operator lies."""
        found = [Place(INSIDE, "")] * len(features.kinds)
        alike: dict[tuple[str, str], list[int]] = {}
        for index, kinds in enumerate(zip(features.types, features.kinds, strict=True)):
            alike.setdefault(kinds, []).append(index)
        for (operator_type, kind), chosen in alike.items():
            if operator_type.partition(" ")[0] in _RENAMES:  # they only give a tensor another name
                continue
            sizes = coordinates(kind, features.values[chosen])
            for index, of_one in zip(chosen, sizes, strict=True):
                found[index] = self._known_place(operator_type, kind, of_one)
        return tuple(found)

    def _known_place(self, operator_type: str, kind: str, sizes: Floats) -> Place:
        """`_place`, looked up once: the networks of a search have many operators in common."""
        asked = (operator_type, kind, sizes.tobytes())
        place = self._places.get(asked)
        if place is None:
            if len(self._places) >= _MOST_PLACES:
                self._places.clear()
            place = self._places[asked] = self._place(operator_type, kind, sizes)
        return place

    @cached_property
    def _places(self) -> dict[tuple[str, str, bytes], Place]:
        """Places of operators by type, kind and sizes."""
        return {}

    def _place(self, operator_type: str, kind: str, sizes: Floats) -> Place:
        cells = self._cells(HERE, operator_type, kind)
        why = f"{operator_type} was never measured" if cells is None else _why_outside(sizes, cells, kind)
        if not why:
            return Place(INSIDE, "")
        for other in sorted(next((types for types in _SAME_KERNEL if operator_type in types), ())):
            cells = self._cells(HERE, other, kind)
            if other != operator_type and cells is not None and not _why_outside(sizes, cells, kind):
                return Place(NEAR, f"{why}, but {other} of such sizes was, by the same kernel")
        cells = self._cells(ELSEWHERE, operator_type, kind)
        if cells is not None and not _why_outside(sizes, cells, kind):
            return Place(NEAR, f"{operator_type} of such sizes was only measured on another kind of processor")
        return Place(OUTSIDE, why)

    def _cells(self, place: str, operator_type: str, kind: str) -> Floats | None:
        """The cells of a type in octaves, measured `HERE` or `ELSEWHERE`; None where there are none."""
        name = f"{place}/{key(operator_type, kind)}"
        if name not in self._decoded:
            stored = self._arrays
            steps = np.array([dimension.step for dimension in DIMENSIONS[kind]])
            self._decoded[name] = stored[name] * steps if name in stored else None
        return self._decoded[name]

    @cached_property
    def _decoded(self) -> dict[str, Floats | None]:
        """What was asked for, by the array's name."""
        return {}

    @cached_property
    def _arrays(self) -> NpzFile:
        try:
            return _opened(read_checked(self.folder, *self.file))
        except (KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ArtefactInvalid(
                f"{self.folder / self.file[0]}: {error!r} is missing or wrong; reinstall Sectum, or train again "
                "(python -m sectum.lab.training.train)"
            ) from error


def encoded(here: Mapping[str, Cells], elsewhere: Mapping[str, Cells]) -> bytes:
    """The file's content for cells by `key`: those of this kind of processor, and those of another kind only."""
    arrays: dict[str, Any] = {
        f"{place}/{name}": cells[name].astype(np.int8)
        for place, cells in ((HERE, here), (ELSEWHERE, elsewhere))
        for name in sorted(cells)
    }
    content = io.BytesIO()
    np.savez_compressed(content, **arrays | {_DIMENSIONS: np.array(_dimensions())})
    return content.getvalue()


def _opened(content: bytes) -> NpzFile:
    arrays: NpzFile = np.load(io.BytesIO(content), allow_pickle=False)
    if str(arrays[_DIMENSIONS]) != _dimensions():
        raise ValueError("its format")
    return arrays


def _dimensions() -> str:
    columns = {kind: [[one.name, one.step] for one in of_kind] for kind, of_kind in DIMENSIONS.items()}
    return json.dumps([_FORMAT, columns])


def _why_outside(sizes: Floats, cells: Floats, kind: str) -> str:
    dimensions = DIMENSIONS[kind]
    reach = np.array([dimension.reach for dimension in dimensions])
    beyond = np.maximum(np.abs(cells - sizes) / reach - 1, 0)
    distance = beyond.sum(axis=1)
    if distance.min() <= _ROUNDING:
        return ""
    least, most = cells.min(axis=0), cells.max(axis=0)
    for dimension, size, low, high in zip(dimensions, sizes, least, most, strict=True):
        if not low - dimension.reach - _ROUNDING <= size <= high + dimension.reach + _ROUNDING:
            seen = dimension.text(low) if low == high else f"{dimension.text(low)} to {dimension.text(high)}"
            return f"{dimension.name} {dimension.text(size)} was never measured, only {seen}"
    nearest = int(distance.argmin())
    parts = [
        f"{dimension.name} {dimension.text(cells[nearest, index])} for {dimension.text(sizes[index])}"
        for index, dimension in enumerate(dimensions)
        if beyond[nearest, index] > _ROUNDING
    ]
    return f"no measured operator has all its sizes; the nearest has {', '.join(parts)}"
