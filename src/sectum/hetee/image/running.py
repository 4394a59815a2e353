"""Runs a role from its image, and checks in the running role that nothing else was loaded."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

# Where the parts of an image are.
LIBRARY = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"
PACKAGES = f"{LIBRARY}/site-packages"
INTERPRETER, LOADER, NATIVE = "bin/python", "native/ld.so", "native"
_START = (
    "import runpy, sys; sys.path.append(sys.prefix + '/' + sys.argv[1]); sys.argv[:] = sys.argv[2:]; "
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)
NO_CACHES = "/proc/self/no-byte-code"  # nobody can make this folder, so no stored byte code is read
# All that a role gets of the environment. TZ and the like change nothing that a role does.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


def command(
    image: Path, module: str, arguments: Sequence[str] = (), *, caches: Path | None = None, compiles: bool = False
) -> list[str]:
    """The command that runs a module of an image, isolated from everything that is installed.

    Args:
        image: the image.
        module: name of the module to run.
        arguments: its arguments.
        caches: folder with byte code of the image's files; None compiles them anew.
        compiles: whether the process writes byte code to ``caches``.
    """
    python = str(image / INTERPRETER)
    loader = [str(image / LOADER), "--inhibit-cache", "--argv0", python, "--library-path", str(image / NATIVE), python]
    prefix = caches if caches is not None else NO_CACHES
    isolated = ["-I", "-S", *([] if compiles else ["-B"]), "-X", f"pycache_prefix={prefix}", "-X", "utf8"]
    return [*loader, *isolated, "-c", _START, PACKAGES, module, *arguments]


def foreign() -> list[str]:
    """What this process has loaded, or could load, from outside of its image; empty if all is of the image.

    Call it in a process that `command` started.
    """
    image = Path(sys.prefix)
    inside = f"{image.as_posix().rstrip('/')}/"
    found = [] if sys.flags.isolated and sys.flags.no_site and sys.flags.dont_write_bytecode else ["not isolated"]
    found += [path for path in sys.path if not path.startswith(inside)]
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file is not None and not file.startswith(inside):
            found.append(file)
    for line in Path("/proc/self/maps").read_text().splitlines():
        _, rights, *_, mapped = [*line.split(maxsplit=5), ""][:6]
        if "x" in rights and mapped and not mapped.startswith((inside, "[")):  # the C library maps tables as data
            found.append(mapped)
    return list(dict.fromkeys(found))
