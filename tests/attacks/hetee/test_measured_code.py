"""R6, R9: whatever code a role runs is in its measurement. Poison either changes the measurement or is not loaded."""

from __future__ import annotations

import importlib.util
import marshal
import os
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hetee_installation import POISON, Installation, RunningService
from hetee_rack import until
from sectum.hetee.client import connect
from sectum.hetee.errors import PolicyRefused, ServiceRefused
from sectum.hetee.image.measurement import measure
from sectum.hetee.installation.software import WORKER, files
from sectum.hetee.installed_policy import installed_policy
from sectum.hetee.signing import sign_reference
from sectum.hetee.verification.policy import Policy

pytestmark = pytest.mark.slow

Poison = Callable[[Installation, Path], dict[str, str]]


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """A clean installation in a folder of its own."""
    return Installation(tmp_path / "installation")


@cache
def clean_policy() -> Policy:
    """A policy for the clean software, without roots."""
    return installed_policy([])


def policy_for(service: RunningService) -> Policy:
    """A policy for the clean software, and this service's root."""
    made = clean_policy()
    return Policy(formats=made.formats, measurements=made.measurements, roots=(service.root(),))


def accepted(service: RunningService, model: bytes) -> bool:
    """Whether a client that trusts the clean software sends this service her model and her inputs."""
    numbers = np.arange(1000, dtype=np.float32)
    try:
        with connect(service.url, policy_for(service), wait_s=30) as session:
            session.load(model)
            np.testing.assert_array_equal(session.infer(numbers).outputs["y"], numbers * 2)
    except PolicyRefused as error:
        return "measurement" not in str(error)
    return True


def replaced_byte_code(source: Path) -> None:
    """Put poison into the byte code of a module, under the header that fits its source."""
    target = Path(importlib.util.cache_from_source(str(source)))
    target.parent.mkdir(exist_ok=True)
    stat = source.stat()
    head = importlib.util.MAGIC_NUMBER + bytes(4) + int(stat.st_mtime).to_bytes(4, "little")
    code = compile(source.read_text() + POISON, str(source), "exec", dont_inherit=True)
    target.write_bytes(head + (stat.st_size & 0xFFFFFFFF).to_bytes(4, "little") + marshal.dumps(code))


def sitecustomize(_installation: Installation, folder: Path) -> dict[str, str]:
    """A module that the interpreter imports at its start, on PYTHONPATH."""
    (folder / "sitecustomize.py").write_text(POISON)
    return {"PYTHONPATH": os.pathsep.join((str(folder), _installation.environment()["PYTHONPATH"]))}


def user_site(_installation: Installation, folder: Path) -> dict[str, str]:
    """The same in the user's own folder for packages."""
    site = folder / ".local" / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    site.mkdir(parents=True)
    (site / "usercustomize.py").write_text(POISON)
    return {"HOME": str(folder)}


def pth_file(installation: Installation, _folder: Path) -> dict[str, str]:
    """A line of code in a .pth file of the interpreter's folder for packages."""
    site = installation.library / "site-packages"
    site.mkdir()
    (site / "poison.pth").write_text(f"import sys; exec({POISON!r})\n")
    return {}


def byte_code_of_worker(installation: Installation, _folder: Path) -> dict[str, str]:
    """Byte code of a module of the worker, under its old header."""
    replaced_byte_code(installation.site / "sectum/hetee/worker/process.py")
    return {}


def byte_code_of_controller(installation: Installation, _folder: Path) -> dict[str, str]:
    """Byte code of a module of the controller, and of one that both roles and the launcher import."""
    replaced_byte_code(installation.site / "sectum/hetee/controller/service.py")
    replaced_byte_code(installation.site / "sectum/hetee/wire/frames.py")
    return {}


def byte_code_of_library(installation: Installation, _folder: Path) -> dict[str, str]:
    """Byte code of a module of the standard library."""
    replaced_byte_code(installation.library / "selectors.py")
    return {}


def standard_library(installation: Installation, _folder: Path) -> dict[str, str]:
    """A module of the standard library."""
    path = installation.library / "selectors.py"
    path.write_text(path.read_text() + POISON)
    return {}


def shadowing_package(installation: Installation, folder: Path) -> dict[str, str]:
    """A package with the name of a dependency, earlier on the path."""
    shutil.copytree(installation.site / "cbor2", folder / "cbor2")
    with (folder / "cbor2" / "__init__.py").open("a") as file:
        file.write(POISON)
    return {"PYTHONPATH": os.pathsep.join((str(folder), installation.environment()["PYTHONPATH"]))}


def shared_object(installation: Installation, _folder: Path) -> dict[str, str]:
    """The native part of a dependency."""
    (library,) = (installation.site / "msgspec").glob("_core*.so")
    with library.open("ab") as file:
        file.write(b"poison")
    return {}


def preloaded(_installation: Installation, folder: Path) -> dict[str, str]:
    """A library that the dynamic loader is told to load first."""
    (folder / "poison.c").write_text(
        "#include <unistd.h>\n#include <fcntl.h>\n#include <string.h>\n"
        "__attribute__((constructor)) static void begin(void) {\n"
        '  char words[4096] = {0}; int file = open("/proc/self/cmdline", O_RDONLY);\n'
        "  long n = read(file, words, sizeof words - 1); close(file);\n"
        "  for (long i = 0; i < n; i++) if (!words[i]) words[i] = ' ';\n"
        '  if (strstr(words, "hetee.controller") || strstr(words, "hetee.worker")) write(2, "POISON\\n", 7);\n}\n'
    )
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / "poison.so", folder / "poison.c"], check=True)
    return {"LD_PRELOAD": str(folder / "poison.so")}


NOT_LOADED: tuple[Poison, ...] = (
    *(sitecustomize, user_site, pth_file, byte_code_of_worker, byte_code_of_controller, byte_code_of_library),
    *(shadowing_package, preloaded),
)
MEASURED: tuple[Poison, ...] = (standard_library, shared_object)


def test_poison_beside_the_software_is_not_loaded(installation: Installation, tmp_path: Path, doubler: bytes) -> None:
    """Poison that changes no measured file is loaded by no role of a service that is accepted."""
    more: dict[str, str] = {}
    for poison in NOT_LOADED:
        if poison is preloaded and shutil.which("gcc") is None:
            continue
        folder = tmp_path / poison.__name__
        folder.mkdir()
        added = poison(installation, folder)
        if "PYTHONPATH" in added and "PYTHONPATH" in more:  # all folders with poison come first
            added["PYTHONPATH"] = os.pathsep.join((str(folder), more["PYTHONPATH"]))
        more |= added
    with RunningService(installation, tmp_path / "state", more) as service:
        assert accepted(service, doubler)
        assert not service.poisoned()


@pytest.mark.parametrize("poison", MEASURED, ids=lambda poison: poison.__name__)
def test_poison_in_the_software_is_measured(
    installation: Installation, tmp_path: Path, doubler: bytes, poison: Poison
) -> None:
    """A changed file of the standard library or of a native library changes the measurement: clients send nothing."""
    poison(installation, tmp_path)
    with RunningService(installation, tmp_path / "state") as service:
        assert not accepted(service, doubler)


def test_what_was_measured_is_what_is_run(installation: Installation, tmp_path: Path, doubler: bytes) -> None:
    """Workers that start after a file was swapped run what was measured; a new controller refuses to run the change."""
    with RunningService(installation, tmp_path / "state") as service:
        for file in ("hetee/worker/process.py", "hetee/worker/__main__.py", "hetee/wire/frames.py"):
            path = installation.site / "sectum" / file
            path.write_text(path.read_text() + POISON)
        for number in range(1, 4):  # one spare is kept, so the last of these workers started after the files changed
            assert accepted(service, doubler)
            until(lambda number=number: len(events(service, "worker_collected")) >= number, what="a used worker")  # type: ignore[misc]
        assert len({event["pid"] for event in events(service, "vouched")}) == 3
        assert not service.poisoned()
        os.kill(controller_pid(service), signal.SIGKILL)
        until(lambda: refusals(service), 90, what="the new controller's refusal")
        assert len(events(service, "ready", "controller")) == 1
        with pytest.raises(ServiceRefused):  # nobody listens
            accepted(service, doubler)


def refusals(service: RunningService) -> list[str]:
    """What controllers say of a worker's image that nobody has signed."""
    return [e["text"] for e in service.log() if "not in the signed reference manifest" in e.get("text", "")]


def test_software_that_was_changed_is_not_run_until_it_is_signed(
    installation: Installation, tmp_path: Path, doubler: bytes
) -> None:
    """A controller runs no worker whose image is not in its signed manifest, not even to compile its code."""
    state = tmp_path / "state"
    with RunningService(installation, state) as service:
        assert accepted(service, doubler)
    path = installation.site / "sectum/hetee/worker/process.py"
    path.write_text(path.read_text() + POISON)
    for manifest, why in ((None, "not in the signed reference manifest"), (_forged(path), "signed by another key")):
        if manifest is not None:
            (state / "reference" / "manifest.cwt").write_bytes(manifest)
        with pytest.raises(AssertionError) as caught, RunningService(installation, state):
            pass
        assert why in str(caught.value)
    assert len(events(service, "ready", "controller")) == 1
    assert not service.poisoned()


def _forged(changed: Path) -> bytes:
    """A manifest with the changed software that is signed by who may not."""
    package = changed.parents[2]
    return sign_reference(Ed25519PrivateKey.generate(), [measure(files(WORKER, package))])


def events(service: RunningService, name: str, role: str = "") -> list[dict[str, Any]]:
    """The events of this name, and of this role if it is given."""
    return [e for e in service.log() if e["event"] == name and role in ("", e.get("role"))]


def controller_pid(service: RunningService) -> int:
    """The process id of the controller of a service."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                words = (folder / "cmdline").read_bytes().decode(errors="replace")
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            if "hetee.controller" in words and int(parent) == service._process.pid:
                return int(folder.name)
    raise AssertionError("there is no controller")
