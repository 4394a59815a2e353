"""Each runner passes the suite; those that this machine cannot start are skipped with their reason."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sectum.enclave.runners import gramine
from sectum.enclave.runners.gramine import GramineRunner
from sectum.enclave.runners.native import NativeRunner
from sectum.enclave.runners.runner import Runner
from sectum.enclave.runners.softepc import SoftEpcRunner
from sectum.enclave.runners.warm import WarmRunner
from sectum.errors import EnclaveUnavailable
from sectum.testing.runner_conformance import RunnerConformance

pytestmark = pytest.mark.slow


class TestNative(RunnerConformance):
    """An ordinary process."""

    @pytest.fixture
    def runner(self) -> Runner:
        """Give the native runner."""
        return NativeRunner()


class TestSoftEpc(RunnerConformance):
    """The software enclave."""

    @pytest.fixture
    def runner(self) -> Runner:
        """Give the software enclave's runner."""
        return SoftEpcRunner()


class TestWarmNative(RunnerConformance):
    """An ordinary process, forked from a parent that has the runtime loaded."""

    @pytest.fixture(scope="class")
    @classmethod
    def runner(cls) -> Iterator[Runner]:
        """Give one runner to all tests: its parent stays."""
        with WarmRunner(NativeRunner()) as runner:
            runner.check()
            yield runner


class TestWarmSoftEpc(RunnerConformance):
    """The software enclave, opened after a fork."""

    @pytest.fixture(scope="class")
    @classmethod
    def runner(cls) -> Iterator[Runner]:
        """Give one runner to all tests: its parent stays."""
        with WarmRunner(SoftEpcRunner()) as runner:
            with contextlib.suppress(EnclaveUnavailable):  # the tests say why they are skipped
                runner.check()
            yield runner


class TestGramine(RunnerConformance):
    """Gramine's process path, with programs that stand in for Gramine's own, and a file for SGX's device."""

    @pytest.fixture
    def runner(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
        """Put the stand-ins first on PATH."""
        programs = {
            "gramine-manifest": 'cp "$1" "$2"',
            "gramine-sgx-sign": 'cp "$2" "$4"',
            "gramine-sgx": f'test -f "$1.manifest.sgx" && exec {sys.executable} -P -m sectum.enclave.runners.child',
        }
        for name, body in programs.items():
            path = tmp_path / name
            path.write_text(f"#!/bin/sh\n{body}\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setattr(gramine, "DEVICE", tmp_path)
        return GramineRunner()
