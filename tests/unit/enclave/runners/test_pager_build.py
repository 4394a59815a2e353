"""The pager is compiled once, stored where only its owner can change it, and its absence is explained."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sectum import compiling
from sectum.enclave.runners import pager_build
from sectum.errors import EnclaveFailed, EnclaveUnavailable

pytestmark = pytest.mark.slow

needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("cc", "gcc", "clang")), reason="no C compiler on this machine"
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SECTUM_CACHE", str(folder))
    return folder


def fake_compiler(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Put a ``cc`` on PATH, alone with the shell's own tools."""
    folder.mkdir(exist_ok=True)
    path = folder / "cc"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SECTUM_CACHE comes first, then XDG_CACHE_HOME, then the home folder."""
    monkeypatch.setenv("SECTUM_CACHE", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    monkeypatch.setenv("HOME", str(tmp_path / "c"))
    assert compiling.cache_folder() == tmp_path / "a"
    monkeypatch.delenv("SECTUM_CACHE")
    assert compiling.cache_folder() == tmp_path / "b" / "sectum"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert compiling.cache_folder() == tmp_path / "c" / ".cache" / "sectum"


def test_looking_for_the_cache_makes_nothing(cache: Path) -> None:
    """Asking for the cache folder does not create it."""
    compiling.cache_folder()
    assert not cache.exists()


@needs_compiler
def test_it_compiles_and_loads(cache: Path) -> None:
    """The compiled library can be preloaded, alone in a private cache folder."""
    library = pager_build.pager_library()
    assert library.parent == cache.resolve()
    assert [path.name for path in cache.iterdir()] == [library.name]
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    script = "import ctypes; ctypes.CDLL(None).softepc_counters"
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], env={"LD_PRELOAD": str(library)}, check=False, timeout=60
    )
    assert ended.returncode in (0, 88)  # 88: the machine lacks something, and the pager said so


def test_it_is_compiled_once(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A second use takes the cached library; another compiler compiles it again."""
    compiling = 'echo run >> "{log}"; while [ "$1" != -o ]; do shift; done; : > "$2"'
    script = f'echo v1; [ "$1" = --version ] || {{ {compiling}; }}'
    log = tmp_path / "log"
    fake_compiler(tmp_path / "bin", monkeypatch, script.replace("{log}", str(log)))
    first = pager_build.pager_library()
    assert pager_build.pager_library() == first
    assert log.read_text().splitlines() == ["run"]
    fake_compiler(tmp_path / "bin", monkeypatch, script.replace("{log}", str(log)).replace("v1", "v2"))
    assert pager_build.pager_library() != first
    assert log.read_text().splitlines() == ["run", "run"]


def test_first_uses_at_once_are_harmless(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Several first uses at once give one complete library and leave no other files."""
    fake_compiler(
        tmp_path / "bin",
        monkeypatch,
        '[ "$1" = --version ] || { while [ "$1" != -o ]; do shift; done; sleep 0.2; echo whole > "$2"; }',
    )
    with ThreadPoolExecutor(4) as pool:
        libraries = {future.result() for future in [pool.submit(pager_build.pager_library) for _ in range(4)]}
    assert len(libraries) == 1
    assert libraries.pop().read_text() == "whole\n"
    assert len(list(cache.iterdir())) == 1


def test_no_compiler_says_how_to_get_one(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a compiler the message names the packages to install, and says what works without them."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnclaveUnavailable, match=r"apt-get install gcc libc6-dev.*Predicting works without it"):
        pager_build.pager_library()


def test_a_compiler_that_fails_is_quoted(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error contains the compiler's message, and no library is stored."""
    fake_compiler(tmp_path / "bin", monkeypatch, '[ "$1" = --version ] || { echo "no errno.h" >&2; exit 1; }')
    with pytest.raises(EnclaveFailed, match=r"no errno\.h"):
        pager_build.pager_library()
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_cache_that_others_can_write_is_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int
) -> None:
    """A library that others could replace is never loaded."""
    fake_compiler(tmp_path / "bin", monkeypatch, "echo v1")
    cache.mkdir()
    cache.chmod(mode)
    with pytest.raises(EnclaveUnavailable, match="only you can write"):
        pager_build.pager_library()


def test_a_cache_that_the_loader_cannot_name_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """LD_PRELOAD splits at spaces and colons: such a folder is refused instead of silently not preloaded."""
    fake_compiler(tmp_path / "bin", monkeypatch, "echo v1")
    monkeypatch.setenv("SECTUM_CACHE", str(tmp_path / "my cache"))
    with pytest.raises(EnclaveUnavailable, match="SECTUM_CACHE"):
        pager_build.pager_library()


def test_a_cache_that_cannot_be_made_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache path below a file gives an error that says what to set."""
    fake_compiler(tmp_path / "bin", monkeypatch, "echo v1")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SECTUM_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(EnclaveUnavailable, match="SECTUM_CACHE"):
        pager_build.pager_library()


def test_another_processor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pager is written for x86-64 Linux; elsewhere the message says so."""
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(EnclaveUnavailable, match="aarch64"):
        pager_build.pager_library()
