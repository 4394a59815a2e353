"""Finds the shared libraries that executable files need, by reading their ELF headers."""

from __future__ import annotations

import mmap
import struct
import sysconfig
from collections.abc import Iterable
from pathlib import Path

_MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little endian
_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_NEEDED, _STRING_TABLE = 1, 5
_FOLDERS = ("/lib64", "/usr/lib64", "/lib/{0}", "/usr/lib/{0}", "/usr/local/lib", "/lib", "/usr/lib")


def needed(data: mmap.mmap) -> tuple[str, list[str]]:
    """The program interpreter of an ELF file, and the names of the libraries that it needs.

    Returns:
        The path of the interpreter, empty if there is none, and the names; nothing if ``data`` is no such file.
    """
    if data[: len(_MAGIC)] != _MAGIC:
        return "", []
    offset, size, count = *struct.unpack_from("<Q", data, 32), *struct.unpack_from("<HH", data, 54)
    parts = [struct.unpack_from("<IIQQQQ", data, offset + size * number) for number in range(count)]
    interpreter = next((data[at : at + n - 1].decode() for kind, _, at, _, _, n in parts if kind == _INTERPRETER), "")
    entries: list[tuple[int, int]] = []
    for kind, _, at, _, _, n_bytes in parts:
        if kind == _DYNAMIC:
            entries = list(struct.iter_unpack("<qQ", data[at : at + n_bytes - n_bytes % 16]))
    address = next((value for tag, value in entries if tag == _STRING_TABLE), None)
    if address is None:
        return interpreter, []
    at = next(o + address - v for kind, _, o, v, _, n in parts if kind == _LOAD and v <= address < v + n)
    names = [data[at + value : data.find(b"\0", at + value)].decode() for tag, value in entries if tag == _NEEDED]
    return interpreter, names


def with_needed(files: Iterable[Path]) -> tuple[Path | None, dict[str, Path]]:
    """The program interpreter of these files, and all system libraries that they need, directly or not.

    Libraries that are among ``files`` are left out. One that is found nowhere is left out as well: what needs it then
    cannot be loaded.
    """
    waiting, loader = list(files), ""
    own = {path.name for path in waiting}
    found: dict[str, Path] = {}
    folders = [Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")]
    folders += [Path(folder.format(sysconfig.get_config_var("MULTIARCH") or "")) for folder in _FOLDERS]
    while waiting:
        with waiting.pop().open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            interpreter, names = needed(data)
        loader = loader or interpreter
        for name in names:
            place = next((folder / name for folder in folders if (folder / name).is_file()), None)
            if place is not None and name not in own and not name.startswith("ld-"):
                own.add(name)
                found[name] = place
                waiting.append(place)
    return Path(loader) if loader else None, found
