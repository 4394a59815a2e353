"""Builds libsoftepc and the C programs of this folder once, and runs them in an enclave."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from places import ROOT

SOURCE = ROOT / "native" / "softepc"
PROGRAMS = Path(__file__).resolve().parent / "programs"
MIB = 1 << 20


@dataclass(frozen=True)
class Enclave:
    """The built library, and how to start a program under it."""

    library: Path
    folder: Path

    def program(self, name: str) -> str:
        """Path of the compiled C program `name`."""
        return str(self.folder / name)

    def environment(self, budget_bytes: int = 0, **settings: object) -> dict[str, str]:
        """Environment of a process in the enclave; settings are SOFTEPC_* names in lower case."""
        names = {f"SOFTEPC_{name.upper()}": str(value) for name, value in settings.items()}
        return {
            **os.environ,
            "LD_PRELOAD": str(self.library),
            "SOFTEPC_BUDGET_BYTES": str(budget_bytes),
            **names,
        }

    def run(
        self, *command: str, budget_bytes: int = 0, stdin: str = "", timeout_s: float = 120, **settings: object
    ) -> subprocess.CompletedProcess[str]:
        """Run the command in the enclave to its end."""
        return subprocess.run(
            command,
            env=self.environment(budget_bytes, **settings),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def python(self, code: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        """Run Python code in the enclave, in the interpreter itself (no wrapper in between)."""
        return self.run(sys.executable, "-c", code, *arguments, **options)

    def counters(self, report: Path) -> dict[str, object]:
        """Counters in the report of a process."""
        return json.loads(report.read_text())


@pytest.fixture(scope="session")
def enclave(tmp_path_factory: pytest.TempPathFactory) -> Enclave:
    """Build the library and all programs in a temporary folder; skip where that cannot work."""
    compiler = shutil.which("cc")
    if not compiler or not shutil.which("make"):
        pytest.skip("no C compiler (cc) or no make: libsoftepc cannot be built")
    folder = tmp_path_factory.mktemp("softepc")
    subprocess.run(["make", "-s", "-C", str(SOURCE), f"BUILD={folder}"], check=True)
    for source in PROGRAMS.glob("*.c"):
        flags = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Wno-alloc-size-larger-than", "-pthread"]
        output = str(folder / source.stem)
        subprocess.run([compiler, *flags, f"-I{SOURCE}", "-o", output, str(source), "-ldl"], check=True)
    built = Enclave(folder / "libsoftepc.so", folder)
    probe = built.run(sys.executable, "-c", "")
    if probe.returncode == 88:
        pytest.skip(f"this machine cannot run the software EPC: {probe.stderr.strip()}")
    assert probe.returncode == 0, probe.stderr
    return built
