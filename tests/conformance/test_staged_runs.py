"""A network that runs stage by stage, with opened weights, gives what the runtime gives."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from functools import cache

import pytest

from kinds_of_models import KINDS
from places import ROOT, SUPPORT
from sectum.enclave.runners.launch import child_environment

NETWORKS = ("zoo:resnet18", "zoo:mobilenet_v2", "zoo:densenet121", "zoo:shufflenet_v2_x0_5",
            "light_squeezenet.onnx", "light_inception_v1.onnx", "light_shufflenet.onnx",
            "family:encoder", "family:vision_transformer", "family:recurrent", "family:detector")  # fmt: skip

every_network = pytest.mark.parametrize(
    "names", [tuple(KINDS), NETWORKS[:5], NETWORKS[5:]], ids=["kinds", "networks", "others"]
)


@cache
def rows_of(*names: str) -> list[dict]:
    """Run networks in a process of their own: what is said of each."""
    environment = child_environment()
    environment["PYTHONPATH"] = f"{SUPPORT}:{environment.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, str(SUPPORT / "staged_kinds.py"), *names],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["name"] for row in rows] == list(names), done.stderr[-2000:]
    return rows


@pytest.mark.slow
@every_network
def test_outputs_are_equal_bit_for_bit(names: tuple[str, ...]) -> None:
    """Cut anywhere, divided by channels or by rows, and with one or three buffers, all networks give the same bits."""
    rows = rows_of(*names)
    assert [row for row in rows if not all(row["equal"].values())] == []
    assert sum(row["opened_bytes"] for row in rows) > 1 << 20
    assert max(row["stages"] for row in rows) > 8
    assert max(row["strips"] for row in rows) > 8


@pytest.mark.slow
@every_network
def test_weights_as_int8_change_outputs_a_little(names: tuple[str, ...]) -> None:
    """With weights as int8 outputs are the same each time, and no more is opened; of CNNs they are a bit off."""
    for row in rows_of(*names):
        assert row["int8"]
        for off, same, share in row["int8"].values():
            assert same
            assert share <= 1
            assert math.isfinite(off)
            if row["name"] in ("zoo:resnet18", "zoo:densenet121"):
                assert 0 < off < 0.1
                assert share < 0.35


@pytest.mark.slow
def test_activations_take_what_the_layout_says() -> None:
    """In the steady state, whole stages, parts of operators and strips use as much of the arena as is predicted."""
    rows = {row["name"]: row["arena"] for row in rows_of(*NETWORKS[:5])}
    for name in ("zoo:resnet18", "zoo:mobilenet_v2", "light_squeezenet.onnx"):
        assert len(rows[name]) >= 5
        assert all(used == planned for used, planned in rows[name].values()), rows[name]


@pytest.mark.slow
@every_network
def test_outputs_of_a_chain_are_equal_bit_for_bit(names: tuple[str, ...]) -> None:
    """Cut over four enclaves, between operators and within them, every kind of network gives the same bits."""
    rows = rows_of(*names)
    assert [row for row in rows if not all(row["chained"].values())] == []
    assert min(row["sent_bytes"] for row in rows) > 0
