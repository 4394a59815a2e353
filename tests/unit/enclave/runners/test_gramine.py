"""Gramine's manifest, and the errors of machines without Gramine."""

from __future__ import annotations

import re
import stat
import tomllib
from pathlib import Path

import pytest

from sectum.enclave.runners import gramine
from sectum.enclave.runners.gramine import GramineRunner
from sectum.enclave.runners.runner import Job
from sectum.errors import EnclaveFailed, EnclaveUnavailable, UsageError
from sectum.testing.tiny_models import convolutions


def rendered(text: str) -> dict[str, object]:
    """Return what Gramine reads, with its own two paths filled in."""
    filled = text.replace("{{ gramine.libos }}", "/gramine/libsysdb.so").replace(
        "{{ gramine.runtimedir() }}", "/gramine"
    )
    assert "{{" not in filled
    return tomllib.loads(filled)


def manifest(tmp_path: Path, **changes: object) -> str:
    values: dict[str, object] = {
        "command": ["/usr/bin/env", "-m", "sectum.enclave.runners.child"],
        "environment": {"OMP_NUM_THREADS": "2"},
        "folder": tmp_path,
        "trusted": ["/usr/lib", "/etc/hostname"],
        "enclave_bytes": 2 << 30,
        "threads": 2,
    }
    return gramine.manifest_template(**(values | changes))  # type: ignore[arg-type]


def test_manifest_is_toml_with_the_enclave_in_it(tmp_path: Path) -> None:
    """The manifest has size, threads, entry point, arguments and environment where Gramine looks for them."""
    found = rendered(manifest(tmp_path))
    assert found["sgx"]["enclave_size"] == "2048M"  # type: ignore[index]
    assert found["sgx"]["max_threads"] == 6  # type: ignore[index]
    assert found["sgx"]["debug"] is False  # type: ignore[index]
    assert found["loader"]["argv"] == ["/usr/bin/env", "-m", "sectum.enclave.runners.child"]  # type: ignore[index]
    assert found["loader"]["env"]["OMP_NUM_THREADS"] == "2"  # type: ignore[index]
    assert found["libos"]["entrypoint"] == str(Path("/usr/bin/env").resolve())  # type: ignore[index]


def test_only_the_output_folder_is_not_measured(tmp_path: Path) -> None:
    """All that the enclave reads is part of its measurement, except for the one folder that it writes to."""
    found = rendered(manifest(tmp_path))
    assert found["sgx"]["allowed_files"] == [f"file:{tmp_path}/out/"]  # type: ignore[index]
    assert f"file:{tmp_path}/model.onnx" in found["sgx"]["trusted_files"]  # type: ignore[index]
    assert "file:/usr/lib/" in found["sgx"]["trusted_files"]  # type: ignore[index]
    assert not [key for key in re.findall(r"^\S+", manifest(tmp_path), re.M) if "insecure" in key]


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    """Quotes, newlines and template braces in a path or a value cannot add a line to the manifest."""
    value = '"\nsgx.debug = true\n{{ gramine.libos }}{% if %}'
    found = rendered(manifest(tmp_path, environment={"X": value}))
    assert found["loader"]["env"]["X"] == value  # type: ignore[index]
    assert found["sgx"]["debug"] is False  # type: ignore[index]


@pytest.mark.parametrize("model_bytes", [0, 100 << 20, 600 << 20])
def test_enclave_size_is_a_power_of_two_with_room(model_bytes: int) -> None:
    """The size is a power of two and has room for the model's file and two copies of its weights."""
    size = gramine.enclave_size_bytes(model_bytes)
    assert size & (size - 1) == 0
    assert size >= 3 * model_bytes + (512 << 20)


def test_trusted_paths_exist_and_are_not_nested() -> None:
    """No path is listed together with a parent, because hashing takes time."""
    paths = gramine.trusted_paths()
    assert all(Path(path).exists() for path in paths)
    assert not [a for a in paths for b in paths if a != b and a.startswith(f"{b}/")]


def test_missing_gramine_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without Gramine the message names the missing program, where to get it, and what to use instead."""
    monkeypatch.setenv("PATH", str(tmp_path))
    runner = GramineRunner()
    with pytest.raises(EnclaveUnavailable, match=r"gramine-sgx.*installation.*softepc"):
        runner.check()
    with pytest.raises(EnclaveUnavailable):
        runner.start(Job(model=convolutions()))


def test_results_are_unverified() -> None:
    """No result of this runner claims to be measured on hardware."""
    assert GramineRunner.provenance == "unverified"
    assert not GramineRunner.counts_pages


def test_an_epc_is_refused() -> None:
    """The hardware's EPC cannot be set, so asking for a size is a usage error."""
    with pytest.raises(UsageError, match="softepc"):
        GramineRunner().start(Job(model=convolutions(), epc_bytes=1 << 20))


@pytest.mark.slow
def test_a_failing_tool_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If the manifest cannot be built, the error contains the tool's own message."""
    for name in ("gramine-manifest", "gramine-sgx", "gramine-sgx-sign"):
        path = tmp_path / name
        path.write_text("#!/bin/sh\necho 'bad manifest' >&2\nexit 3\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(gramine, "DEVICE", tmp_path)
    with pytest.raises(EnclaveFailed, match="exit code 3: bad manifest"):
        GramineRunner().start(Job(model=convolutions()))
