"""Giving the graph's inputs static shapes and, where the caller has them, values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sectum.errors import ShapeInconsistent, ShapeUnbound, UsageError
from sectum.graph.inference_context import Constant, Shape
from sectum.graph.onnx_format import RawValueInfo
from sectum.graph.raw_tensor import DTYPES

Given = Shape | Constant
"""What a caller says about an input: its shape, or its value. A shape of one number is the value of an input of
rank 0."""

_EXAMPLE_SIZES = (1, 3, 224, 224)
_EXAMPLE_LENGTH = 128
_BATCH_SYMBOLS = ("n", "b", "bs", "batch")


@dataclass(frozen=True, slots=True)
class Binding:
    """Shapes and values of the graph's inputs.

    Attributes:
        shapes: as asked for.
        original: as the file fixes them, where it fixes another batch; otherwise None.
        symbols: values of the file's symbolic dimensions; one that has different sizes is not there.
        values: values of inputs, where they were given.
        notes: what a person should know.
    """

    shapes: Mapping[str, Shape]
    original: Mapping[str, Shape] | None
    symbols: Mapping[str, int]
    values: Mapping[str, Constant]
    notes: tuple[str, ...]


def bind(declared: list[RawValueInfo], batch: int | None, inputs: Mapping[str, Given] | None) -> Binding:
    """Find a value for every dimension of every input.

    A symbol has the size that the first input with a given shape gives it; another input's shape may give it another
    size there, because ONNX Runtime does not compare inputs. ``batch`` is the first dimension of every input whose
    first dimension is open, or fixed to the same number as that of the first input.

    Raises:
        ShapeUnbound: dimensions without a value.
        ShapeInconsistent: shapes contradict the file.
        UsageError: arguments contradict each other, name no input, or are no values of the input's type.
    """
    if batch is not None and batch < 1:
        raise UsageError(f"the batch is {batch}; it must be 1 or more")
    given, values = _checked(declared, inputs or {})
    symbols, notes = _symbols(declared, given, batch)
    first = next((i.shape[0] for i in declared if i.shape and isinstance(i.shape[0], int) and i.shape[0] > 0), 0)
    unbound = [info for info in declared if _is_open(info, given, symbols, batch)]
    if unbound:
        raise _unbound(unbound, symbols, batch)
    shapes: dict[str, Shape] = {}
    original: dict[str, Shape] = {}
    for info in declared:
        shapes[info.name] = wanted = _bound(info, given.get(info.name), symbols, batch, first)
        fixed = info.shape[0] if info.shape else None
        leading = fixed if isinstance(fixed, int) and fixed > 0 else None
        original[info.name] = wanted if leading is None else (leading, *wanted[1:])
    unequal = {dim for _, dim, _ in notes}
    return Binding(
        shapes,
        original if original != shapes else None,
        {dim: size for dim, size in symbols.items() if dim not in unequal},
        values,
        tuple(
            f"input '{name}' gives the dimension '{dim}' the size {size}, another input gives it {symbols[dim]}: "
            "ONNX Runtime accepts this"
            for name, dim, size in notes
        ),
    )


def at_batch_one(declared: list[RawValueInfo], binding: Binding) -> Mapping[str, Shape] | None:
    """Give the same shapes with the open leading dimensions at 1; None where none is open."""
    shapes = dict(binding.shapes)
    for info in declared:
        if info.shape and not (isinstance(info.shape[0], int) and info.shape[0] > 0):
            shapes[info.name] = (1, *shapes[info.name][1:])
    return shapes if shapes != binding.shapes else None


def _checked(declared: list[RawValueInfo], inputs: Mapping[str, Given]) -> tuple[dict[str, Shape], dict[str, Constant]]:
    """Shapes of the inputs that are given, and the values of those that are given as values."""
    by_name = {info.name: info for info in declared}
    shapes: dict[str, Shape] = {}
    values: dict[str, Constant] = {}
    for name, given in inputs.items():
        info = by_name.get(name)
        if info is None:
            raise UsageError(f"the model has no input '{name}'; its inputs are {', '.join(map(repr, by_name))}")
        if isinstance(given, tuple) and info.shape == () and len(given) == 1:
            given = np.array(given[0])
        if isinstance(given, np.ndarray):
            values[name] = given = _cast(info, given)
            given = given.shape
        if any(size < 1 for size in given):
            raise UsageError(f"the shape {_text(given)} of input '{name}' must consist of numbers from 1 up")
        if info.shape is not None and len(given) != len(info.shape):
            raise ShapeInconsistent(
                f"input '{name}' is a single number: give its value, as --input {name}=1"
                if not info.shape
                else f"input '{name}' has {len(info.shape)} dimensions ({_text(info.shape)}); "
                f"{_text(given) or 'a single number'} has {len(given)}"
            )
        shapes[name] = given
    return shapes, values


def _cast(info: RawValueInfo, value: Constant) -> Constant:
    """Value in the type of the input.

    Raises:
        UsageError: it has values that the type does not have.
    """
    dtype = DTYPES[info.elem_type]
    if dtype not in np.sctypeDict or value.dtype.kind not in "biuf":
        raise UsageError(f"input '{info.name}' is a tensor of {dtype}: values can be given for numbers only")
    if dtype == "bool" or np.dtype(dtype).kind in "iu":
        low, high = (0, 1) if dtype == "bool" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
        numbers = value.astype(np.float64) if value.dtype.kind == "f" else value
        if value.size and not (low <= numbers.min().item() and numbers.max().item() <= high):
            raise UsageError(f"input '{info.name}' is a tensor of {dtype}: its values must lie from {low} to {high}")
        if value.dtype.kind == "f" and (np.trunc(numbers) != numbers).any():
            raise UsageError(f"input '{info.name}' is a tensor of {dtype}: its values must be whole numbers")
    with np.errstate(all="ignore"):
        return value.astype(dtype)


def _symbols(
    declared: list[RawValueInfo], given: Mapping[str, Shape], batch: int | None
) -> tuple[dict[str, int], list[tuple[str, str, int]]]:
    """Sizes of symbols, and where an input gives another size: input, symbol, size."""
    symbols: dict[str, int] = {}
    unequal: list[tuple[str, str, int]] = []
    for info in declared:
        for dim, size in zip(info.shape or (), given.get(info.name, ()), strict=False):
            if isinstance(dim, str) and symbols.setdefault(dim, size) != size:
                unequal.append((info.name, dim, size))
    if batch is not None:
        for info in declared:
            dim = info.shape[0] if info.shape else None
            if isinstance(dim, str) and symbols.setdefault(dim, batch) != batch:
                raise UsageError(f"the batch is given as {batch} and, in an input's shape, as {symbols[dim]}")
    return symbols, unequal


def _is_open(info: RawValueInfo, given: Mapping[str, Shape], symbols: Mapping[str, int], batch: int | None) -> bool:
    if info.name in given:
        return False
    return info.shape is None or bool(_open_dimensions(info.shape, symbols, batch))


def _open_dimensions(shape: tuple[int | str | None, ...], symbols: Mapping[str, int], batch: int | None) -> list[int]:
    return [
        index
        for index, dim in enumerate(shape)
        if not (isinstance(dim, int) and dim > 0) and dim not in symbols and (index > 0 or batch is None)
    ]


def _bound(
    info: RawValueInfo, given: Shape | None, symbols: Mapping[str, int], batch: int | None, fixed_batch: int
) -> Shape:
    """Shape of an input whose open dimensions all have a value."""
    if info.shape is None:
        assert given is not None
        return given
    bound: list[int] = []
    for index, dim in enumerate(info.shape):
        size = given[index] if given else None
        if isinstance(dim, int) and dim > 0:
            rebatch = batch if index == 0 and dim == fixed_batch else None
            if size is not None and size != dim and index > 0:
                raise ShapeInconsistent(
                    f"dimension {index} of input '{info.name}' is fixed at {dim} in the file and {size} was "
                    "asked for: only the first dimension of a fixed shape can be changed"
                )
            chosen = size or rebatch or dim
        else:
            chosen = size or (symbols.get(dim) if isinstance(dim, str) else None) or batch or 0
        if index == 0 and batch is not None and size is not None and size != batch:
            raise UsageError(f"the batch is given as {batch} and, in the shape of input '{info.name}', as {size}")
        bound.append(chosen)
    return tuple(bound)


def _unbound(unbound: list[RawValueInfo], symbols: Mapping[str, int], batch: int | None) -> ShapeUnbound:
    """Error that names all inputs without a shape, with an example for each."""
    named = [f"'{info.name}' ({_text(info.shape) if info.shape else 'no shape in the file'})" for info in unbound]
    if all(info.shape and _open_dimensions(info.shape, symbols, batch) == [0] for info in unbound):
        flags = "--batch 1"
    else:
        flags = " ".join(f"--input {info.name}={_example(info, symbols, batch)}" for info in unbound)
    return ShapeUnbound(
        f"input{'s' if len(named) > 1 else ''} {_listed(named)} {'have' if len(named) > 1 else 'has'} dimensions "
        f"without a size: give them, for example {flags}"
    )


def _example(info: RawValueInfo, symbols: Mapping[str, int], batch: int | None) -> str:
    if info.shape is None:
        return "x".join(map(str, _EXAMPLE_SIZES))
    rank = len(info.shape)
    sizes = []
    for index, dim in enumerate(info.shape):
        if isinstance(dim, int) and dim > 0:
            sizes.append(dim)
        elif isinstance(dim, str) and dim in symbols:
            sizes.append(symbols[dim])
        elif index == 0 and (rank > 1 or looks_like_batch(dim)):
            sizes.append(batch or 1)
        else:
            sizes.append(_EXAMPLE_SIZES[index] if rank == len(_EXAMPLE_SIZES) else _EXAMPLE_LENGTH)
    return "x".join(map(str, sizes))


def looks_like_batch(dim: int | str | None) -> bool:
    """Whether an open dimension has no name, or one that exporters give to the batch."""
    return not isinstance(dim, str) or dim.lower() in _BATCH_SYMBOLS or "batch" in dim.lower()


def _listed(names: list[str]) -> str:
    shown = names[:8] + ([f"{len(names) - 8} more"] if len(names) > 8 else [])
    return " and ".join([*([", ".join(shown[:-1])] if shown[1:] else []), shown[-1]])


def _text(shape: tuple[int | str | None, ...]) -> str:
    return "x".join("?" if d is None or d == -1 else str(d)[:60] for d in shape)
