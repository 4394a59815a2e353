"""One cell of HETEE's figures, measured with real processes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from sectum.hetee.bench.published import published


@pytest.mark.parametrize(("words", "preprocess"), [((), "paced"), (("--real-decode",), "real")])
def test_one_cell(words: tuple[str, ...], preprocess: str) -> None:
    """Service and baseline answer the same batches; one seals, the other does not; both are paced alike."""
    command = [sys.executable, "-P", "-m", "sectum.cli", "hetee", "bench", "inference", "--json", *words]
    command += ["--network", "GoogLeNet", "--batch", "4", "--batches", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (cell,) = json.loads(done.stdout)["cells"]
    assert (cell["network"], cell["batch"]) == ("GoogLeNet", 4)
    assert (cell["preprocess"], cell["compute"]) == (preprocess, "paced")
    assert cell["breakdown_ms"]["encryption"] > 0
    assert cell["baseline"]["breakdown_ms"]["encryption"] == 0
    times = published("GoogLeNet", 4)
    for shown in (cell["breakdown_ms"], cell["baseline"]["breakdown_ms"]):
        assert shown["compute"] >= times.compute_ms
        assert preprocess == "real" or shown["preprocess"] >= times.preprocess_ms
    assert all(len(samples) == 4 for samples in cell["samples"]["latency_ms"]["service"].values())
