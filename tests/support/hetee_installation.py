"""An installation of its own, to poison: interpreter, standard library and this package, run by ``sectum hetee up``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import sectum
from hetee_rack import free_port

_READY = '"event": "ready"'
_PACKAGES = ("cbor2", "msgspec")
# What poison does when it is loaded: it says so in the log of the role, if it is a controller or a worker.
POISON = """
import sys as _sys
if any(_role in _word for _word in _sys.orig_argv for _role in ("hetee.controller", "hetee.worker")):
    _sys.stderr.write("POISON is loaded\\n")
"""


class Installation:
    """Copies of what a test may poison; everything else is used from where it is.

    Args:
        folder: an empty folder.
        base: the interpreter to copy; None for the one that runs the tests.

    Attributes:
        python: the interpreter.
        command: the program that runs the interpreter, if it is another one.
        library: the standard library.
        site: the folder of this package and two others.
    """

    def __init__(self, folder: Path, base: Path | None = None) -> None:
        name = f"python{sys.version_info.major}.{sys.version_info.minor}"
        original = base.parent.parent / "lib" / name if base is not None else Path(sysconfig.get_path("stdlib"))
        base = base or Path(sys._base_executable)  # type: ignore[attr-defined]
        self.python, self.library = folder / "python" / "bin" / name, folder / "python" / "lib" / name
        self.site, self.command = folder / "site", self.python
        ignored = shutil.ignore_patterns("__pycache__", "site-packages", "test", "config-*", "idlelib", "tkinter")
        shutil.copytree(original, self.library, ignore=ignored)
        self.python.parent.mkdir()
        shutil.copy(base.resolve(), self.python)
        shutil.copytree(Path(sectum.__file__).parent, self.site / "sectum", ignore=shutil.ignore_patterns("*.pyc"))
        self._rest = [path for path in sys.path if "site-packages" in path]
        for package in _PACKAGES:
            for found in (p for root in self._rest for p in Path(root).glob(f"*{package}*")):
                copied = self.site / found.name
                if found.is_dir() and not copied.exists():
                    shutil.copytree(found, copied)
                elif not copied.exists():
                    shutil.copy(found, copied)

    def environment(self, **more: str) -> dict[str, str]:
        """The environment for the command, with this installation on the path."""
        path = os.pathsep.join((str(self.site), *self._rest))
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return inherited | {"PYTHONPATH": path} | more


class RunningService:
    """``sectum hetee up`` of an installation, in a process of its own.

    Args:
        installation: what runs.
        state: folder of the rack.
        more: additional environment variables.
        options: additional options of the command.
        user: user id of the process; None for this one's.
    """

    def __init__(
        self,
        installation: Installation,
        state: Path,
        more: Mapping[str, str] | None = None,
        *,
        options: Sequence[str] = (),
        user: int | None = None,
    ) -> None:
        self.installation, self.state, port = installation, state, free_port()
        self.url = f"hetee://127.0.0.1:{port}"
        self.metrics = f"127.0.0.1:{free_port()}"
        words = ["hetee", "up", "--json", "--state", str(state), "--accelerators", "cpu=1", "--drain", "1"]
        words += ["--listen", f"127.0.0.1:{port}", "--metrics", self.metrics, "--spares", "1", *options]
        command = [str(installation.command), "-c", "from sectum.cli.main import main; main()", *words]
        self._process = subprocess.Popen(
            command,
            env=installation.environment(**(more or {})),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )

    def __enter__(self) -> RunningService:
        assert self._process.stdout is not None
        self.greeting = []
        for line in self._process.stdout:
            self.greeting.append(line)
            if _READY in line:
                return self
        self.__exit__(None, None, None)
        raise AssertionError(f"the service did not start: {self.errors}")

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._process.terminate()
        _, self.errors = self._process.communicate(timeout=60)

    def log(self) -> list[dict[str, Any]]:
        """The events of all roles."""
        found = []
        for line in (self.state / "log.jsonl").read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                found.append({"event": "output", "text": line})
        return found

    def root(self) -> str:
        """The root of the rack."""
        return (self.state / "endorsement" / "root.pub").read_text().strip()

    def poisoned(self) -> bool:
        """Whether poison was loaded in a controller or a worker."""
        return any("POISON" in json.dumps(event) for event in self.log())
