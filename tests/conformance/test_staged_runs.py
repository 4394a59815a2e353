"""A network that runs stage by stage, with opened weights, gives what the runtime gives."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from kinds_of_models import KINDS
from places import ROOT, SUPPORT
from sectum.enclave.runners.launch import child_environment

NETWORKS = ("zoo:resnet18", "zoo:mobilenet_v2", "zoo:densenet121", "zoo:shufflenet_v2_x0_5", "zoo:googlenet",
            "light_squeezenet.onnx", "light_inception_v1.onnx", "light_shufflenet.onnx",
            "family:encoder", "family:vision_transformer", "family:recurrent", "family:detector")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("names", [tuple(KINDS), NETWORKS], ids=["kinds", "networks"])
def test_outputs_are_equal_bit_for_bit(names: tuple[str, ...]) -> None:
    """Cut anywhere, divided by channels, and with one or three buffers, every kind of network gives the same bits."""
    environment = child_environment()
    environment["PYTHONPATH"] = f"{SUPPORT}:{environment.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, str(SUPPORT / "staged_kinds.py"), *names],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["name"] for row in rows] == list(names), done.stderr[-2000:]
    assert [row for row in rows if not all(row["equal"].values())] == []
    assert sum(row["opened_bytes"] for row in rows) > 1 << 20
    assert max(row["stages"] for row in rows) > 8


@pytest.mark.slow
@pytest.mark.parametrize("names", [tuple(KINDS), NETWORKS], ids=["kinds", "networks"])
def test_outputs_of_a_chain_are_equal_bit_for_bit(names: tuple[str, ...]) -> None:
    """Cut over four enclaves, between operators and within them, every kind of network gives the same bits."""
    environment = child_environment()
    environment["PYTHONPATH"] = f"{SUPPORT}:{environment.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, str(SUPPORT / "chained_kinds.py"), *names],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["name"] for row in rows] == list(names), done.stderr[-2000:]
    assert [row for row in rows if not all(row["equal"].values())] == []
    assert min(row["sent_bytes"] for row in rows) > 0
