"""Arrays in ``.npz`` files: values of a network's inputs, or its outputs. What is read need not be trusted."""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sectum.errors import UsageError
from sectum.units import GIB, format_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LARGEST_BYTES = 2 * GIB  # of all arrays together
_MOST_ARRAYS = 1000
_HEADER_BYTES = 10_000
_DAMAGED = (
    OSError,  # it cannot be read
    zipfile.BadZipFile,  # no archive, or a wrong checksum
    zlib.error,  # bytes that cannot be unpacked
    EOFError,  # cut short
    RuntimeError,  # encrypted; NotImplementedError, an unknown compression, is one
    ValueError,  # no array of numpy
    tokenize.TokenError,  # a header with a bracket that is never closed
    TypeError,  # True or a text in place of a size
    OverflowError,  # a size that no machine has
    MemoryError,
)


def read_arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """Arrays of the file by name. What an array says about its size is checked before it is unpacked.

    Raises:
        UsageError: no such file, not of this format, or too large.
    """
    import numpy as np

    found: dict[str, NDArray[np.generic]] = {}
    left_bytes = _LARGEST_BYTES
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(names) > _MOST_ARRAYS:
                raise UsageError(f"{path} holds {len(names)} arrays: {_MOST_ARRAYS} are allowed")
            for name in names:
                with archive.open(name) as file:
                    left_bytes -= _n_bytes(file, f"the array '{name}' of {path}")
                if left_bytes < 0:
                    raise UsageError(f"the arrays of {path} take more than {format_bytes(_LARGEST_BYTES)}")
                with archive.open(name) as file:
                    array = np.lib.format.read_array(file, allow_pickle=False, max_header_size=_HEADER_BYTES)
                found[name.removesuffix(".npy")] = array
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {path}") from error
    except _DAMAGED as error:
        raise UsageError(
            f"{path} is no .npz file with an array for each input or output: write one with numpy.savez ({error})"
        ) from error
    return found


def read_array(path: Path) -> NDArray[np.generic]:
    """The array in a ``.npy`` file. What it says about its size is checked before memory is taken.

    Raises:
        UsageError: no such file, not of this format, or too large.
    """
    import numpy as np

    try:
        with path.open("rb") as file:
            if _n_bytes(file, str(path), "biufc") > _LARGEST_BYTES:
                raise UsageError(f"{path} takes more than {format_bytes(_LARGEST_BYTES)}")
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False, max_header_size=_HEADER_BYTES)
    except _DAMAGED as error:
        raise UsageError(f"{path} is not an array that can be read: {error}") from error


def _n_bytes(file: IO[bytes], name: str, kinds: str = "biuf") -> int:
    """The number of bytes that an array says that it has.

    Raises:
        UsageError: it holds something else than numbers.
    """
    import numpy as np

    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    read_header = readers.get(np.lib.format.read_magic(file))
    if read_header is None:
        raise UsageError(f"{name} has names of columns: give plain numbers")
    shape, _, dtype = read_header(file, max_header_size=_HEADER_BYTES)
    if dtype.kind not in kinds:
        raise UsageError(f"{name} is no array of numbers: its type is {dtype}")
    if min(shape, default=0) < 0:
        raise UsageError(f"{name} has the impossible shape {shape}")
    return prod(shape) * dtype.itemsize


def archive_of(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """The ``.npz`` file with these arrays. Names may be anything, also those of parameters of `numpy.savez`."""
    import numpy as np

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return content.getvalue()
