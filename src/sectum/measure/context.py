"""Where and when a number was measured. Reading this changes nothing on the machine."""

from __future__ import annotations

import datetime
import os
import platform
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import sectum
from sectum.enclave.profile_kinds import recognised


def _field(path: str, key: str) -> str:
    """Read the value after ``key:`` in one of the kernel's files; empty if there is none."""
    try:
        lines = Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == key), "")


def _commit(root: Path) -> str:
    """Find the commit of a checkout's HEAD without running git; empty if this is not a checkout."""
    try:
        head = (root / ".git" / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        loose = root / ".git" / name
        if loose.is_file():
            return loose.read_text().strip()
        packed = (root / ".git" / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {name}")), "")
    except OSError:
        return ""


def versions(*libraries: str, **known: str) -> dict[str, str]:
    """Versions of python, those that are known, and those of libraries, as far as they are installed."""
    found = {"python": platform.python_version(), **known}
    for name in libraries:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def machine_context(devices: Path = Path("/dev")) -> dict[str, Any]:
    """Describe this machine now, as plain values for JSON.

    Returns:
        ``cpu_model`` as the kernel names it; ``cores``, the CPUs that this process may use; ``memory_bytes`` of the
        machine, 0 if unknown; ``kernel``, name and release; ``versions`` of python, sectum, onnxruntime and numpy, as
        far as they are installed; ``commit`` of the checkout that sectum runs from, empty for an installed package;
        ``date``, UTC, ISO 8601; ``tee``, the kind of confidential machine that this process runs in, see
        `sectum.enclave.profile_kinds.recognised`.
    """
    memory = _field("/proc/meminfo", "MemTotal").split()
    return {
        "cpu_model": _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": int(memory[0]) << 10 if memory else 0,
        "kernel": f"{platform.system()} {platform.release()}",
        "versions": versions("onnxruntime", "numpy", sectum=sectum.__version__),
        "commit": _commit(Path(sectum.__file__).resolve().parents[2]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "tee": recognised(devices),
    }
