"""The check of a GPU, on a machine without one: how it ends, what it writes, and what does not pass."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

import gpu_check
from gpu_check import FAILED, NO_GPU, PASSED, UNUSABLE, Clock, NotPassed
from places import ROOT

GPU = {"name": "imitated", "driver_version": "1.2"}
SEARCHED = {"searched_bytes": 80, "total_bytes": 100, "canaries": 0}


class Said(Clock):
    """A clock whose programs say this."""

    def __init__(self, *outputs: Any) -> None:
        super().__init__(60)
        self.outputs = list(outputs)

    def run(self, *_words: str) -> str:
        output = self.outputs.pop(0)
        return output if isinstance(output, str) else json.dumps(output)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine that says that it has a GPU; the folder where results are written."""
    monkeypatch.setattr(gpu_check, "gpus", lambda: [GPU])
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--out", str(tmp_path)])
    return tmp_path


def usable(monkeypatch: pytest.MonkeyPatch, **checks: Any) -> None:
    """Let the software be usable, and the checks be these."""
    monkeypatch.setattr(gpu_check, "unusable", lambda: None)
    monkeypatch.setattr(gpu_check, "context", lambda found: {"gpus": found, "commit": "abc", "evidence": "software"})
    monkeypatch.setattr(gpu_check, "CHECKS", checks)


@pytest.mark.slow
@pytest.mark.parametrize("says", [None, "echo 'No devices were found'; exit 6"])
def test_the_script_ends_where_there_is_no_gpu(tmp_path: Path, says: str | None) -> None:
    """Without nvidia-smi, or when it lists no GPU, the exit code is 3 and nothing is installed."""
    for name in ("bash", "dirname", "grep", "env"):
        found = next(path for folder in ("/usr/bin", "/bin") if (path := Path(folder, name)).exists())
        (tmp_path / name).symlink_to(found)
    if says:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{says}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    environment = os.environ | {"PATH": str(tmp_path)}
    done = subprocess.run(
        [ROOT / "scripts" / "gpu-check"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == NO_GPU
    assert done.stderr.startswith("sectum: no GPU")


def test_the_program_ends_where_there_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3 and one sentence."""
    monkeypatch.setattr(gpu_check, "gpus", list)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py"])
    assert gpu_check.main() == NO_GPU
    assert "no GPU" in capsys.readouterr().err


@pytest.mark.usefixtures("gpu")
def test_software_without_cuda_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """With a GPU, but with an ONNX Runtime for the CPU, the exit code is 2, and it is said what to do."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine may have a GPU")
    assert gpu_check.main() == UNUSABLE
    assert "scripts/gpu-check" in capsys.readouterr().err


@pytest.mark.parametrize("passes", [True, False])
def test_results_are_written_with_their_context(monkeypatch: pytest.MonkeyPatch, gpu: Path, passes: bool) -> None:
    """Both files name the GPU and the commit; one check that does not pass is enough for exit code 1."""

    def second(_clock: Clock) -> dict[str, Any]:
        if not passes:
            raise NotPassed("too bad")
        return {"n": 2}

    usable(monkeypatch, first=lambda _clock: {"n": 1}, second=second)
    assert gpu_check.main() == (PASSED if passes else FAILED)
    written = json.loads((gpu / "gpu-check.json").read_text())
    assert written["passed"] == passes
    assert [check["why"] for check in written["checks"]] == [None, None if passes else "too bad"]
    assert written["context"]["gpus"] == [GPU]
    text = (gpu / "gpu-check.txt").read_text()
    assert text.startswith("imitated, driver 1.2; commit abc; software")
    assert ("NOT PASSED" in text) == (not passes)


def test_a_check_without_time_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not reached in the time is no success."""
    usable(monkeypatch, first=lambda _clock: {"n": 1})
    (outcome,) = gpu_check.run(0.0)
    assert outcome.why == "the time was over before it began"


@pytest.mark.parametrize("said", ["3 passed, 1 skipped in 1s", "2 failed, 9 passed in 1s", "no tests ran in 1s"])
def test_a_suite_that_was_not_run_whole_does_not_pass(said: str) -> None:
    """A skipped test counts as much as a failed one: the accelerator was not tried."""
    with pytest.raises(NotPassed):
        gpu_check.conformance(Said(said))
    assert gpu_check.conformance(Said("12 passed in 3s")) == {"passed": 12}


@pytest.mark.parametrize("after", [{"canaries": 1}, {"searched_bytes": 40}])
def test_what_is_left_or_not_searched_does_not_pass(after: dict[str, int]) -> None:
    """Numbers that the next process finds fail the check, and so does a search of less than half of the memory."""
    planted = SEARCHED | {"computed": True, "reset": "1 models unloaded", "canaries": 7}
    assert gpu_check.reset(Said(planted, SEARCHED))["in the next process"] == SEARCHED
    with pytest.raises(NotPassed):
        gpu_check.reset(Said(planted, SEARCHED | after))


def test_a_benchmark_that_waited_instead_of_computing_does_not_pass() -> None:
    """Only real computing of all networks counts."""
    cells = [{"network": "ResNet50", "compute": "real"}]
    assert gpu_check.training(Said({"cells": cells}))["cells"] == cells
    with pytest.raises(NotPassed):
        gpu_check.training(Said({"cells": [cells[0] | {"compute": "paced"}]}))
    with pytest.raises(NotPassed):
        gpu_check.inference(Said({"cells": cells}))
