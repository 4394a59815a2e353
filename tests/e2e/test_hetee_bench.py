"""One cell of HETEE's figures, measured with real processes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest

from sectum.hetee.bench.baseline import Baseline
from sectum.hetee.bench.inference import baseline_system
from sectum.hetee.bench.published import published
from sectum.hetee.bench.workload import Mode, model, workload


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


def test_scaling_of_one_cell() -> None:
    """An enclave grows to two accelerators between blocks, and is compared with one and with a baseline of two."""
    command = [sys.executable, "-P", "-m", "sectum.cli", "hetee", "bench", "scaling", "--json", "--rounds", "2"]
    command += ["--network", "GoogLeNet", "--batch", "4", "--accelerators", "1", "--accelerators", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    one, two = json.loads(done.stdout)["cells"]
    assert (one["accelerators"], two["accelerators"]) == (1, 2)
    assert one["speedup"] == 1
    assert two["speedup"] == pytest.approx(two["images_per_s"] / one["images_per_s"], rel=1e-3)
    assert two["vs_baseline"] == pytest.approx(two["images_per_s"] / two["baseline_images_per_s"], rel=1e-3)


def test_the_plain_baseline_waits_for_room() -> None:
    """A client of the baseline that sends more batches than are allowed at a time has all of them answered."""
    content = model("GoogLeNet", Mode())
    with Baseline("paced:0", "paced:1", open_streams=2) as baseline:
        baseline.load(content, hashlib.sha256(content).digest())
        work = workload("GoogLeNet", 4, Mode(), 0)
        assert baseline_system(baseline).batches_per_s(work, 12, in_flight=8) > 0


def test_the_life_of_an_enclave() -> None:
    """Each step is measured as often as was asked for, with a real model."""
    command = [sys.executable, "-P", "-m", "sectum.cli", "hetee", "bench", "lifecycle", "--json"]
    done = subprocess.run(
        [*command, "--network", "GoogLeNet", "--count", "2"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    cells = json.loads(done.stdout)["cells"]
    assert len(cells) == 14
    assert all(len(cell["samples_ms"]) == 2 and min(cell["samples_ms"]) > 0 for cell in cells)
